"""Our U-ViT against diffusers' UVit2DModel: same weights, same logits."""

from pathlib import Path

import published
import pytest
import torch

from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import load_networks

CONFIGS = {
    "256": {},
    "512": {"downsample": True, "upsample": True, "sample_size": 16},
    "one width": {"block_out_channels": 40, "block_num_heads": 4},  # diffusers leaves kv_mapper out here
    "one width, 512": {"block_out_channels": 40, "block_num_heads": 2, "downsample": True, "upsample": True},
    "one block, one head": {"num_res_blocks": 1, "block_num_heads": 1, "num_attention_heads": 1, "sample_size": 5},
    "wide blocks": {"block_out_channels": 64, "hidden_size": 24, "num_attention_heads": 2, "block_num_heads": 8},
    "coarse eps": {"layer_norm_eps": 1e-3, "sample_size": 6, "downsample": True, "upsample": True},
    "published heads": {
        "hidden_size": 128,
        "num_attention_heads": 2,
        "block_out_channels": 64,
        "block_num_heads": 1,
        "micro_cond_encode_dim": 256,
        "micro_cond_embed_dim": 1280,
        "sample_size": 16,
    },
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_equal_diffusers(name: str, batch: int, tmp_path: Path) -> None:
    theirs = published.make_uvit(**CONFIGS[name])
    grid, vocab_size = theirs.config["sample_size"], theirs.config["vocab_size"]
    weights = PublishedWeights(published.save(tmp_path, theirs))
    ours = load_networks(weights).uvit
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())

    tokens = published.random_tokens(batch, grid, vocab_size)
    inputs = published.prompt_inputs(batch, theirs)
    expected = theirs(tokens.unflatten(1, (grid, grid)), *inputs).flatten(2).transpose(1, 2)
    got = ours(tokens, *inputs)
    error = (got - expected).abs().max().item()
    print(f"{name}, batch {batch}: logits max abs error {error:.1e}, logits up to {expected.abs().max():.1f}")
    assert error <= 2e-5


@torch.no_grad()
def test_every_input_matters() -> None:
    """The comparison above would not see a network that ignores an input on both sides."""
    model = published.make_uvit()
    tokens = published.random_tokens(1, 8, 72).unflatten(1, (8, 8))
    inputs = published.prompt_inputs(1, model)
    logits = model(tokens, *inputs)
    for i in range(3):
        changed = [value + 1 if i == j else value for j, value in enumerate(inputs)]
        assert (model(tokens, *changed) - logits).abs().max() > 1e-2


def test_silenced_channels_keep_the_gradient_finite() -> None:
    """GELU may silence a channel everywhere; a plain square root has no finite gradient there, diffusers' norm has."""
    from amused_lite.models.layers import GlobalResponseNorm

    norm = GlobalResponseNorm(4)
    torch.nn.init.ones_(norm.gamma)
    x = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    x[..., 1] = 0
    x.requires_grad_()
    norm(x).square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()

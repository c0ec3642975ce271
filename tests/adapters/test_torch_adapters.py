"""Adapters at work in torch: the same as merged, gone without a trace, and equal to peft's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import save_weights
from torch import Tensor, nn

from amused_lite.adapters.lora import TARGETS, AdapterRecord, WeightedAdapter, shapes_of
from amused_lite.adapters.torch import AdaptedWeights, AttachedAdapter, attach, merge, new_adapter
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.models.networks import Networks, SavedWeights, load_networks

TINY = PRESETS["tiny"]
CONFIG = replace(
    TINY,
    text=replace(TINY.text, layers=2, width=24, heads=3, feedforward_width=32, projection_width=24),
    uvit=replace(
        TINY.uvit, grid=8, token_width=20, block_width=28, hidden_size=36, layers=2, text_width=24, pooled_width=24
    ),
    vqgan=replace(TINY.vqgan, channels=(8, 8), latent_channels=4),
)


def networks(config: ModelConfig = CONFIG, seed: int = 0) -> Networks:
    torch.manual_seed(seed)
    made = Networks(config)
    for parameter in made.uvit.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return made.eval()


def record(config: ModelConfig = CONFIG, **changes: Any) -> AdapterRecord:
    values: dict[str, Any] = {"rank": 3, "alpha": 6.0, "targets": TARGETS, "preset": "custom", "base_model": ""}
    return AdapterRecord(name="x", base_hash="", **values | changes)


def lively(attached: AttachedAdapter, seed: int = 1) -> AttachedAdapter:
    """Both matrices random, for a fresh adapter adds nothing."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in attached.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return attached


@torch.no_grad()
def logits(model: Networks) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(model.config.text.vocab_size - 1, (2, 7), generator=generator)
    ids[:, -1] = model.config.text.end_token_id  # where the pooled text is read
    tokens = torch.randint(model.config.uvit.codebook_size, (2, model.config.uvit.num_tokens), generator=generator)
    states, pooled = model.text(ids)
    said = model.uvit(tokens, states, pooled, torch.tensor([[64.0, 64, 0, 0, 6]] * 2))
    codes = model.vqgan.codebook[tokens[:1].unflatten(1, (model.config.uvit.grid, -1))]
    return torch.cat([said.flatten(), model.vqgan.decode_latents(codes).flatten()])  # what adapters may change


@pytest.mark.parametrize("target", TARGETS)
def test_attached_equals_merged_and_both_leave_no_trace(target: str) -> None:
    model = networks()
    base = logits(model)
    attached = new_adapter(model, record(targets=(target,)))
    assert torch.equal(logits(model), base)  # a fresh adapter adds nothing
    lively(attached)
    adapted = logits(model)
    adapter = attached.adapter()
    attached.weight = 0.0
    assert torch.equal(logits(model), base)
    for name, value in networks().state_dict().items():
        assert torch.equal(value, model.state_dict()[name])

    merge(model, [WeightedAdapter(adapter)])
    # float32, merged before or added after the product: rounding only, and far below what the adapter does.
    torch.testing.assert_close(logits(model), adapted, rtol=1e-4, atol=1e-4)
    assert (adapted - base).abs().max() > 0.05


def test_every_targeted_module_changes_the_picture() -> None:
    """No module of the table is a path that the networks have but never call."""
    model = networks()
    base = logits(model)
    shapes = shapes_of(CONFIG, TARGETS)
    for path in shapes:
        attached = lively(AttachedAdapter(record(), {path: shapes[path]})).attach(model)
        assert not torch.equal(logits(model), base), path
        attached.weight = 0.0
    parameters = dict(model.named_parameters())
    for name, (outside, inside) in shapes.items():
        assert parameters[f"{name}.weight"].flatten(1).shape == (outside, inside)


def test_several_at_once_and_weights() -> None:
    model = networks()
    one, two = (lively(new_adapter(model, record()), seed) for seed in (1, 2))
    one.weight, two.weight = 0.5, -0.75
    mixed = logits(model)
    adapters = one.adapter(), two.adapter()
    two.weight = 0.0
    alone = logits(model)
    model = networks()
    attach(model, WeightedAdapter(adapters[0], 0.5))
    assert torch.equal(logits(model), alone)  # weight 0 is absence, bit for bit
    model = networks()
    merge(model, [WeightedAdapter(adapters[0], 0.5), WeightedAdapter(adapters[1], -0.75)])
    torch.testing.assert_close(logits(model), mixed, rtol=1e-4, atol=1e-4)


def test_a_bottleneck_bends_what_an_attention_gives() -> None:
    model = networks()
    base = logits(model)
    attached = new_adapter(model, record(kind="bottleneck", targets=("attention",), alpha=3.0))
    assert torch.equal(logits(model), base)
    lively(attached)
    layer, path = attached.layers[0], attached.paths[0]
    attention: Any = model.get_submodule(path)
    assert path.endswith("self_attention")
    x = torch.randn(1, 5, 36)
    with torch.no_grad():
        plain = type(attention).forward(attention, x)
        expected = plain + nn.functional.gelu(plain @ layer.down.T) @ layer.up.T  # type: ignore[operator]
        torch.testing.assert_close(attention(x), expected)
    with pytest.raises(ValueError, match="is a bottleneck, which cannot be merged"):
        merge(model, [WeightedAdapter(attached.adapter())])
    adapted = logits(model)
    model = networks()
    again = attach(model, WeightedAdapter(attached.adapter()))
    assert torch.equal(logits(model), adapted)
    again.weight = 0.0
    assert torch.equal(logits(model), base)


@pytest.mark.parametrize("kind", ["low_rank", "bottleneck"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_come_adapted_part_by_part(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    save_weights(networks(), tmp_path / "w.safetensors", dtype)
    saved = SavedWeights(tmp_path / "w.safetensors", CONFIG)
    base = logits(load_networks(saved))
    targets = TARGETS if kind == "low_rank" else ("attention",)
    attached = lively(new_adapter(load_networks(saved), record(kind=kind, targets=targets)))
    stored = np.dtype(str(dtype).removeprefix("torch."))
    adapted = AdaptedWeights(saved, [WeightedAdapter(attached.adapter(), 0.5)], stored)
    changed = load_networks(adapted)
    assert (logits(changed) - base).abs().max() > 0.05
    for name, value in changed.state_dict().items():
        assert torch.equal(value, value.to(dtype).float()), name  # as a bundle of this dtype would hold it
    for part in ("text", "uvit.prompt_side", "uvit.token_side", "vqgan"):
        assert saved.part(part).state_dict().keys() == adapted.part(part).state_dict().keys()
    assert torch.equal(
        logits(load_networks(AdaptedWeights(saved, [WeightedAdapter(attached.adapter(), 0.0)], stored))), base
    )


def test_only_the_adapter_learns() -> None:
    model = networks()
    attached = lively(new_adapter(model, record(targets=("attention", "text"))))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(99, (1, 7), generator=generator)
    states, pooled = model.text(ids)
    tokens = torch.zeros(1, 64, dtype=torch.long)
    model.uvit(tokens, states, pooled, torch.ones(1, 5)).square().sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in attached.parameters())

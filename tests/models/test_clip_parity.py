"""Our text tower against transformers' CLIPTextModelWithProjection and open_clip's text transformer."""

from pathlib import Path
from typing import Any

import published
import pytest
import torch
from torch import Tensor

from amused_lite.config import TextConfig
from amused_lite.models.checkpoint import PublishedWeights, text_from_open_clip

CONFIGS: dict[str, dict[str, Any]] = {
    "quick gelu": {},
    "gelu": {"hidden_act": "gelu"},
    "two layers, one head": {"num_hidden_layers": 2, "num_attention_heads": 1, "hidden_size": 24},
    "coarse eps": {"layer_norm_eps": 1e-2},
    "OpenAI's end id": {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
}


def text_ids(batch: int, length: int, vocab_size: int) -> Tensor:
    """Prompts of different lengths, the last one full; padded with the end id as aMUSEd pads."""
    ids = torch.randint(0, vocab_size - 2, (batch, length), generator=torch.Generator().manual_seed(8))
    ids[:, 0] = vocab_size - 2
    for row in range(batch):
        ids[row, min(length - 1, 3 + 4 * row) :] = vocab_size - 1
    return ids


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_states_and_pooled_text_equal_transformers(name: str, batch: int, tmp_path: Path) -> None:
    theirs = published.make_text(**CONFIGS[name])
    ours = PublishedWeights(published.save(tmp_path, text=theirs)).part("text")
    ids = text_ids(batch, 11, 99)
    expected = theirs(ids, output_hidden_states=True)
    states, pooled = ours(ids.int())
    errors = [
        (states - expected.hidden_states[-2]).abs().max().item(),
        (pooled - expected.text_embeds).abs().max().item(),
    ]
    print(f"{name}, batch {batch}: states {errors[0]:.1e}, pooled {errors[1]:.1e}")
    assert max(errors) <= 2e-5


@pytest.mark.parametrize("quick_gelu", [True, False])
@torch.no_grad()
def test_open_clip_text_equals_open_clip(quick_gelu: bool) -> None:
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=16)
    text = CLIPTextCfg(context_length=11, vocab_size=99, width=24, heads=3, layers=3)
    theirs = published.shake(open_clip.CLIP(20, vision, text, quick_gelu=quick_gelu))
    config = TextConfig(
        vocab_size=99,
        context_length=11,
        width=24,
        layers=3,
        heads=3,
        feedforward_width=96,
        projection_width=20,
        activation="quick_gelu" if quick_gelu else "gelu",
        start_token_id=97,
        end_token_id=98,
    )
    ours = text_from_open_clip(theirs.state_dict(), config)
    ids = text_ids(3, 11, 99)
    states, pooled = ours(ids)
    x = (theirs.token_embedding(ids) + theirs.positional_embedding).float()
    for block in theirs.transformer.resblocks[:-1]:
        x = block(x, attn_mask=theirs.attn_mask)
    errors = [(states - x).abs().max().item(), (pooled - theirs.encode_text(ids)).abs().max().item()]
    print(f"open_clip, quick_gelu {quick_gelu}: states {errors[0]:.1e}, pooled {errors[1]:.1e}")
    assert max(errors) <= 2e-5


def test_open_clip_weights_of_another_shape_are_named() -> None:
    with pytest.raises(ValueError, match="positional_embedding"):
        text_from_open_clip({"token_embedding.weight": torch.zeros(9, 4)}, TextConfig())


def test_published_open_clip_layout_is_vit_l_14() -> None:
    """The default is the shape of `ViT-L-14-quickgelu` in open_clip's own list of models."""
    import open_clip

    published_config = open_clip.get_model_config("ViT-L-14-quickgelu")
    ours = TextConfig()
    assert published_config["quick_gelu"]
    assert ours.projection_width == published_config["embed_dim"]
    text = published_config["text_cfg"]
    found = {"context_length": ours.context_length, "vocab_size": ours.vocab_size, "width": ours.width}
    assert text == found | {"heads": ours.heads, "layers": ours.layers}

"""What is hidden, what is asked and what is dropped follows the definitions."""

import math

import pytest
import torch
import torch.nn.functional as F

from amused_lite.config import UViTConfig
from amused_lite.models.uvit import UViT
from amused_lite.training.loss import ask, draw_masks, masked_token_loss

SMALL = UViTConfig(
    grid=8, codebook_size=32, vocab_size=40, token_width=16, block_width=16, block_heads=2, res_blocks=1,
    hidden_size=16, layers=1, heads=2, feedforward_width=24, text_width=12, pooled_width=12, micro_width=4,
    resample=True,
)  # fmt: skip


def test_hidden_share_follows_the_cosine() -> None:
    masks = draw_masks(20_000, 8, rectangle_share=0.0, generator=torch.Generator().manual_seed(0))
    counts = masks.sum(1)
    assert counts.min() >= 1
    # E[cos(u pi / 2)] = 2 / pi; the standard error of 20,000 draws is 0.31 / 141 = 0.0022, and 5 of them are allowed.
    assert masks.float().mean().item() == pytest.approx(2 / math.pi, abs=0.011)
    # P(share > 0.9) = P(u < 2 acos(0.9) / pi) = 0.287, standard error 0.0032; counts are rounded to 64ths.
    assert (counts > 0.9 * 64).float().mean().item() == pytest.approx(0.287, abs=0.03)


def test_every_place_is_hidden_equally_often() -> None:
    masks = draw_masks(20_000, 8, rectangle_share=0.0, generator=torch.Generator().manual_seed(1))
    share = masks.float().mean(0)
    assert share.max() - share.min() < 0.03  # 64 places, standard error 0.0034 each: a spread of 5 errors is 0.017


def test_rectangles_are_rectangles_of_the_drawn_area() -> None:
    masks = draw_masks(500, 8, rectangle_share=1.0, generator=torch.Generator().manual_seed(2)).unflatten(1, (8, 8))
    for mask in masks:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()
        for line in (rows, columns):  # one run, no gaps
            assert (line.int().diff().abs().sum() + line[0].int() + line[-1].int()) == 2


def test_asked_tokens_are_hidden_ones() -> None:
    generator = torch.Generator().manual_seed(4)
    masks = draw_masks(4, 8, 0.0, generator)
    asked = ask(masks, 64, generator)
    assert len(asked) == 64
    assert masks.flatten()[asked].all()
    if masks.sum() >= 64:
        assert len(set(asked.tolist())) == 64


def test_loss_is_the_mean_cross_entropy_of_hidden_tokens() -> None:
    torch.manual_seed(0)
    uvit = UViT(SMALL)
    tokens = torch.randint(32, (2, 64))
    masks = torch.rand(2, 64) < 0.5
    text, pooled, micro = torch.randn(2, 5, 12), torch.randn(2, 12), torch.tensor([[64.0, 64, 0, 0, 6]]).expand(2, 5)
    asked = masks.flatten().nonzero()[:, 0]
    loss = masked_token_loss(uvit, tokens, masks, asked, text, pooled, micro, label_smoothing=0.1)
    logits = uvit(tokens.masked_fill(masks, SMALL.mask_token_id), text, pooled, micro)
    expected = F.cross_entropy(logits[masks], tokens[masks], label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # A visible token is context: another one there gives another loss.
    shown = (~masks).nonzero()[0]
    tokens[shown[0], shown[1]] = (tokens[shown[0], shown[1]] + 1) % 32
    assert masked_token_loss(uvit, tokens, masks, asked, text, pooled, micro, 0.1).item() != loss.item()


def test_heavier_tokens_are_asked_more_often() -> None:
    masks = torch.rand(4000, 64, generator=torch.Generator().manual_seed(5)) < 0.5
    weights = torch.ones(4000, 64)
    weights[:, :16] = 3
    asked = ask(masks, 6400, torch.Generator().manual_seed(6), weights)
    assert masks.flatten()[asked].all()
    assert len(asked.unique()) == 6400
    # A quarter of the tokens with weight 3: half of what is asked, a little less since none is asked twice.
    assert (asked % 64 < 16).float().mean().item() == pytest.approx(0.5, abs=0.03)
    few = masks & (torch.arange(64) == 3)
    assert few.flatten()[ask(few, 20_000, torch.Generator().manual_seed(7), weights)].all()  # more than are hidden

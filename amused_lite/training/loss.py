"""Masked-token loss: which tokens are masked, and the cross-entropy of predicting them. Same schedule as sampling."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from amused_lite.models.uvit import UViT
from amused_lite.sampling.schedule import mask_ratio


def draw_masks(batch: int, grid: int, rectangle_share: float, generator: torch.Generator) -> Tensor:
    """Masks (B, N), True where hidden (MaskGIT, Chang et al. 2022, section 3.2).

    The hidden share is the cosine of a uniform draw, rounded to a whole count of at least 1. With probability
    `rectangle_share` a row hides one rectangle of about that area, which teaches inpainting (open-muse's recipe).
    """
    tokens = grid * grid
    uniform = torch.rand(batch, generator=generator)
    counts = torch.tensor([max(1, round(tokens * mask_ratio(float(u)))) for u in uniform])
    order = torch.rand(batch, tokens, generator=generator).argsort(-1).argsort(-1)  # a random rank for each token
    masks = order < counts[:, None]
    chosen = torch.rand(batch, generator=generator) < rectangle_share
    for row in chosen.nonzero()[:, 0].tolist():
        masks[row] = _rectangle(grid, int(counts[row]), generator).flatten()
    return masks


def _rectangle(grid: int, area: int, generator: torch.Generator) -> Tensor:
    low = math.ceil(area / grid)
    height = int(torch.randint(low, min(grid, area) + 1, (), generator=generator))
    width = min(grid, max(1, round(area / height)))
    top = int(torch.randint(0, grid - height + 1, (), generator=generator))
    left = int(torch.randint(0, grid - width + 1, (), generator=generator))
    mask = torch.zeros(grid, grid, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def ask(masks: Tensor, count: int, generator: torch.Generator, weights: Tensor | None = None) -> Tensor:
    """Flat positions (count,) of hidden tokens, drawn at random; drawn again where fewer are hidden.

    The head and its softmax over the codebook are a tenth of a small network's step. Asking a fixed number keeps the
    gradient unbiased and every shape constant, so that one compiled graph serves all steps.

    Args:
        masks: (B, N), True where hidden.
        weights: (B, N), how often a token is asked beside the others; None asks all alike.
    """
    hidden = masks.flatten().nonzero()[:, 0]
    if weights is not None:
        return hidden[torch.multinomial(weights.flatten()[hidden], count, len(hidden) < count, generator=generator)]
    if len(hidden) >= count:
        return hidden[torch.randperm(len(hidden), generator=generator)[:count]]
    return hidden[torch.randint(len(hidden), (count,), generator=generator)]


def masked_token_loss(
    uvit: UViT,
    tokens: Tensor,
    masks: Tensor,
    asked: Tensor,
    text_states: Tensor,
    pooled_text: Tensor,
    micro_conditioning: Tensor,
    label_smoothing: float = 0.1,
) -> Tensor:
    """Mean cross-entropy over hidden tokens; the head runs on those alone.

    Args:
        tokens: (B, N) codebook indices.
        masks: (B, N), True where hidden.
        asked: (M,) flat positions of the hidden tokens that count, from `ask` or `masks.flatten().nonzero()[:, 0]`.
        text_states, pooled_text, micro_conditioning: as in `UViT.forward`.
    """
    conditioning = uvit.prompt_side(text_states, pooled_text, micro_conditioning)
    features = uvit.token_side.features(tokens.masked_fill(masks, uvit.config.mask_token_id), conditioning)
    logits = uvit.token_side.head(features.flatten(0, 1)[asked])  # (M, K)
    return F.cross_entropy(logits.float(), tokens.flatten()[asked], label_smoothing=label_smoothing)

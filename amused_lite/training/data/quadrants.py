"""Random quadrants of pictures with their tokens, for training decoders: four cost as much as one whole picture."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amused_lite.files.images import Pixels

MARGIN = 1  # tokens of a quarter beside its cut sides, whose pixels need what was cut away


class TokensAndPixels(NamedTuple):
    """Tokens of pictures (P, N), and the pixels each should decode to."""

    tokens: Tensor  # (P, N)
    pictures: Sequence[Pixels]  # P times (H, W, 3)


class QuadrantBatch(NamedTuple):
    """Quadrants of token grids, and the pixels they should decode to."""

    tokens: Tensor  # (B, n, n)
    pixels: Tensor  # (B, 3, H, W) in 0...1, without the margins
    corners: Tensor  # (B, 2) which quarter: 0 or 1 from the top, and from the left

    def inner(self, made: Tensor) -> Tensor:
        """Decoded `tokens` (B, 3, M, M) without the margins: (B, 3, H, W)."""
        size = self.pixels.shape[-1]
        starts = (self.corners * (made.shape[-1] - size)).tolist()
        return torch.stack([one[:, y : y + size, x : x + size] for one, (y, x) in zip(made, starts, strict=True)])


def random_quadrants(chosen: Sequence[tuple[TokensAndPixels, int]], generator: torch.Generator) -> QuadrantBatch:
    """One quarter, drawn at random, of each chosen picture; all of one size."""
    corners = torch.randint(2, (len(chosen), 2), generator=generator)
    cut = [_quarter(pairs, number, *corner) for (pairs, number), corner in zip(chosen, corners.tolist(), strict=True)]
    tokens, pixels = (torch.stack(parts) for parts in zip(*cut, strict=True))
    return QuadrantBatch(tokens, pixels.permute(0, 3, 1, 2).float() / 255, corners)


def _quarter(pairs: TokensAndPixels, number: int, down: int, right: int) -> tuple[Tensor, Tensor]:
    half = int(pairs.tokens.shape[1] ** 0.5) // 2
    scale = len(pairs.pictures[number]) // (2 * half)  # pixels of a token's side
    tokens = pairs.tokens[number].unflatten(0, (2 * half, 2 * half))
    rows, columns = (slice(side * half, (side + 1) * half) for side in (down, right))
    shown = [
        slice((side * half + side * MARGIN) * scale, (half + side * half - (1 - side) * MARGIN) * scale)
        for side in (down, right)
    ]
    return tokens[rows, columns], torch.from_numpy(pairs.pictures[number][shown[0], shown[1]])

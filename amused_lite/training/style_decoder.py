"""Learn a style as another way to paint the same tokens: a small adapter beside the frozen VQ-GAN decoder.

A base that has seen one look only, as the bundled one has, can be taught another look's tokens but loses its things
over it (docs/log.md). Its decoder learns in a minute to paint the tokens it draws anyway in the style's colours and
lines. What stands where is then the base's own, token for token. Four quarters of pictures cost as much as one picture
and teach more colours at once.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from amused_lite.models.networks import Networks
from amused_lite.training.run import in_turn, step_generator
from amused_lite.training.style_recipe import StyleRecipe
from amused_lite.training.vqgan import reconstruction_loss

Pixels = npt.NDArray[np.uint8]
MARGIN = 1  # tokens of a quarter beside its cut sides, whose pixels need what was cut away


class DecoderBatch(NamedTuple):
    """Quarters of grids of tokens, and what they should be painted as."""

    tokens: Tensor  # (B, n, n)
    pixels: Tensor  # (B, 3, H, W) in 0...1, without the margins
    corners: Tensor  # (B, 2) which quarter: 0 or 1 from the top, and from the left


class Paired(NamedTuple):
    """Tokens of plain pictures, and each picture in the style."""

    tokens: Tensor  # (P, N)
    pictures: list[Pixels]  # P times (H, W, 3)


class DecoderBatches:
    """Deterministic batches of quarters: the style's own pictures, each equally often, among guessed ones."""

    def __init__(self, recipe: StyleRecipe, real: Paired, guessed: Paired | None = None) -> None:
        """`real`: the style's pictures with their plain counterparts; `guessed`: for `recipe.guessed_share`."""
        self.recipe, self.real, self.guessed = recipe, real, guessed
        self.half = int(real.tokens.shape[1] ** 0.5) // 2
        self.scale = len(real.pictures[0]) // (2 * self.half)  # pixels of a token's side

    def batch(self, step: int) -> DecoderBatch:
        """The batch of one step."""
        recipe, generator = self.recipe, step_generator(self.recipe.seed, step)
        chosen = [(self.real, number) for number in in_turn(len(self.real.pictures), recipe.batch, recipe.seed, step)]
        if self.guessed is not None:
            swap = torch.rand(recipe.batch, generator=generator) < recipe.guessed_share
            other = torch.randint(len(self.guessed.pictures), (recipe.batch,), generator=generator).tolist()
            chosen = [(self.guessed, k) if swap[row] else chosen[row] for row, k in enumerate(other)]
        corners = torch.randint(2, (recipe.batch, 2), generator=generator)
        quarters = [self._quarter(*one, *corner) for one, corner in zip(chosen, corners.tolist(), strict=True)]
        tokens, pixels = (torch.stack(parts) for parts in zip(*quarters, strict=True))
        return DecoderBatch(tokens, pixels.permute(0, 3, 1, 2).float() / 255, corners)

    def _quarter(self, pairs: Paired, number: int, down: int, right: int) -> tuple[Tensor, Tensor]:
        half, scale = self.half, self.scale
        tokens = pairs.tokens[number].unflatten(0, (2 * half, 2 * half))
        rows, columns = (slice(side * half, (side + 1) * half) for side in (down, right))
        shown = [slice((side * half + side * MARGIN) * scale, (half + side * half - (1 - side) * MARGIN) * scale)
                 for side in (down, right)]  # fmt: skip
        return tokens[rows, columns], torch.from_numpy(pairs.pictures[number][shown[0], shown[1]])


class DecoderStep(nn.Module):
    """The loss of one batch, on whatever device the networks are."""

    def __init__(self, networks: Networks, recipe: StyleRecipe) -> None:
        super().__init__()
        self.networks, self.recipe = networks, recipe
        self.device = next(networks.parameters()).device

    def forward(self, batch: DecoderBatch) -> Tensor:
        tokens, pixels, corners = (array.to(self.device) for array in batch)
        vqgan = self.networks.vqgan
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            made = vqgan.decode_latents(vqgan.codebook[tokens])
        size = pixels.shape[-1]
        margin = made.shape[-1] - size
        starts = (corners * margin).tolist()
        inner = [one[:, y : y + size, x : x + size] for one, (y, x) in zip(made.float(), starts, strict=True)]
        return reconstruction_loss(torch.stack(inner), pixels)

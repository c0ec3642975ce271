"""Learn a style as another way to paint the same tokens: a small adapter beside the frozen VQ-GAN decoder.

A base that has seen one look only, as the bundled one has, can be taught another look's tokens but loses its things
over it (docs/log.md). Its decoder learns in a minute to paint the tokens it draws anyway in the style's colours and
lines. What stands where is then the base's own, token for token.
"""

import torch
from torch import Tensor, nn

from amused_lite.models.networks import Networks
from amused_lite.style.config import StyleRecipe
from amused_lite.style.data import in_turn
from amused_lite.training.loop import step_generator
from amused_lite.training.quadrants import Paired, QuarterBatch, quarters
from amused_lite.training.vqgan import reconstruction_loss


class DecoderBatches:
    """Deterministic batches of quarters: the style's own pictures, each equally often, among guessed ones."""

    def __init__(self, recipe: StyleRecipe, real: Paired, guessed: Paired | None = None) -> None:
        """`real`: the style's pictures with their plain counterparts; `guessed`: for `recipe.guessed_share`."""
        self.recipe, self.real, self.guessed = recipe, real, guessed

    def batch(self, step: int) -> QuarterBatch:
        """The batch of one step."""
        recipe, generator = self.recipe, step_generator(self.recipe.seed, step)
        chosen = [(self.real, number) for number in in_turn(len(self.real.pictures), recipe.batch, recipe.seed, step)]
        if self.guessed is not None:
            swap = torch.rand(recipe.batch, generator=generator) < recipe.guessed_share
            other = torch.randint(len(self.guessed.pictures), (recipe.batch,), generator=generator).tolist()
            chosen = [(self.guessed, k) if swap[row] else chosen[row] for row, k in enumerate(other)]
        return quarters(chosen, generator)


class DecoderStep(nn.Module):
    """The loss of one batch, on whatever device the networks are."""

    def __init__(self, networks: Networks, recipe: StyleRecipe) -> None:
        super().__init__()
        self.networks, self.recipe = networks, recipe
        self.device = next(networks.parameters()).device

    def forward(self, batch: QuarterBatch) -> Tensor:
        batch = QuarterBatch(*(array.to(self.device) for array in batch))
        vqgan = self.networks.vqgan
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            made = vqgan.decode_latents(vqgan.codebook[batch.tokens])
        return reconstruction_loss(batch.inner(made.float()), batch.pixels)

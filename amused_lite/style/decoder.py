"""Learn a style with an adapter on the frozen VQ-GAN decoder: the same tokens decode to pixels in the style.

A base that has seen one look only, as the bundled one has, can be taught another look's tokens but loses its things
over it (docs/log.md). Its decoder learns in a minute to paint the tokens it draws anyway in the style's colours and
lines. What stands where is then the base's own, token for token.
"""

import torch
from torch import Tensor, nn

from amused_lite.models.networks import Networks
from amused_lite.style.config import StyleTrainConfig
from amused_lite.style.data import in_turn
from amused_lite.training.data.quadrants import QuadrantBatch, TokensAndPixels, random_quadrants
from amused_lite.training.loop.fit import step_generator
from amused_lite.training.pixels.vqgan import reconstruction_loss


class DecoderBatches:
    """Deterministic batches of random quadrants: the style's own pictures, each equally often, among augmented ones."""

    def __init__(
        self, train_config: StyleTrainConfig, real: TokensAndPixels, augmented: TokensAndPixels | None = None
    ) -> None:
        """`real`: the style's pictures with their plain counterparts; `guessed`: for `recipe.guessed_share`."""
        self.train_config, self.real, self.augmented = train_config, real, augmented

    def batch(self, step: int) -> QuadrantBatch:
        """The batch of one step."""
        train_config, generator = self.train_config, step_generator(self.train_config.seed, step)
        chosen = [
            (self.real, number)
            for number in in_turn(len(self.real.pictures), train_config.batch, train_config.seed, step)
        ]
        if self.augmented is not None:
            swap = torch.rand(train_config.batch, generator=generator) < train_config.guessed_share
            other = torch.randint(len(self.augmented.pictures), (train_config.batch,), generator=generator).tolist()
            chosen = [(self.augmented, k) if swap[row] else chosen[row] for row, k in enumerate(other)]
        return random_quadrants(chosen, generator)


class DecoderStep(nn.Module):
    """The loss of one batch, on whatever device the networks are."""

    def __init__(self, networks: Networks, train_config: StyleTrainConfig) -> None:
        super().__init__()
        self.networks, self.train_config = networks, train_config
        self.device = next(networks.parameters()).device

    def forward(self, batch: QuadrantBatch) -> Tensor:
        batch = QuadrantBatch(*(array.to(self.device) for array in batch))
        vqgan = self.networks.vqgan
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.train_config.precision == "bfloat16"):
            made = vqgan.decode_latents(vqgan.codebook[batch.tokens])
        return reconstruction_loss(batch.inner(made.float()), batch.pixels)

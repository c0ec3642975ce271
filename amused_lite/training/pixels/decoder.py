"""Go on with the decoder alone. The codes stay, so every token grid made before still means the same picture.

Muse (Chang et al. 2023) fine-tunes its decoder this way for finer detail. It may run while the U-ViT trains.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from amused_lite.models.vqgan import VQGAN
from amused_lite.training.loop.fit import TrainingRun, fit
from amused_lite.training.loop.state import Ema
from amused_lite.training.pixels.adversarial import AdversarialLoss
from amused_lite.training.pixels.vqgan import DrawPicture, PictureTrainer, VQGANTrainConfig


@dataclass(frozen=True)
class DecoderTrainConfig:
    """How the decoder is finished; pictures and crops are the VQ-GAN's own, from a seed of their own."""

    steps: int = 2400
    learning_rate: float = 6e-4
    warmup: int = 50
    scene_share: float = 0.8
    ema_decay: float = 0.998
    seed: int = 11


class DecoderTrainer(PictureTrainer):
    """A VQ-GAN's decoder; its encoder and codes stay."""

    def __init__(
        self,
        model: VQGAN,
        train_config: DecoderTrainConfig,
        source: VQGANTrainConfig,
        draw: DrawPicture,
        adversarial: AdversarialLoss | None = None,
    ) -> None:
        self.model, self.train_config, self.draw = model.requires_grad_(False), train_config, draw
        self.adversarial = adversarial
        self.pictures = replace(
            source, steps=train_config.steps, seed=train_config.seed, scene_share=train_config.scene_share
        )
        trained = nn.ModuleList([model.post_quant, model.decoder]).requires_grad_(True)
        rate = train_config.learning_rate
        optimizer = torch.optim.AdamW(trained.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=1e-4)
        super().__init__(trained, optimizer, Ema(trained, train_config.ema_decay))

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        train_config, model = self.train_config, self.model
        left = (train_config.steps - number) / train_config.steps
        wanted = self.crops(self.pictures, number)
        with torch.autocast(wanted.device.type, torch.bfloat16):
            with torch.no_grad():
                codes = model.codebook[model.nearest(model.latents(wanted).float())]
            made = model.decode_latents(codes)
        rate = train_config.learning_rate * min((number + 1) / train_config.warmup, left**0.5)
        return self.descend(made, wanted, rate, number)


def train_decoder(
    model: VQGAN, train_config: DecoderTrainConfig, source: VQGANTrainConfig, folder: Path, draw: DrawPicture
) -> VQGAN:
    """Train, or go on training, `model`'s decoder in `folder`; returns it with averaged weights, ready for use."""
    trainer = DecoderTrainer(model, train_config, source, draw)
    fit(TrainingRun(folder), trainer, train_config.steps)
    trainer.average()
    return model.requires_grad_(False).eval()

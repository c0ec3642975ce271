"""Train a VQ-GAN: small crops first, whole pictures last. Knows no text.

The published VQ-GAN's training settings were never released, so these are this project's: L1, squared and gradient
error on pixels, a commitment term, and a codebook that follows its latents by moving average (van den Oord et al. 2017,
appendix A.1) with unused codes restarted where latents are. A discriminator comes on top where one is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from amused_lite.config import VQGANConfig
from amused_lite.models.vqgan import VQGAN, ConvResBlock
from amused_lite.training.loop.fit import ModuleTrainer, TrainingRun, fit, step_generator
from amused_lite.training.pixels.adversarial import AdversarialLoss


@dataclass(frozen=True)
class VQGANTrainConfig:
    """How the codebook model is trained. Sizes in pixels, rates per step."""

    steps: int = 3000
    whole_steps: int = 300  # of them on whole pictures, at the end
    batch: int = 24
    canvas: int = 512  # side of a whole picture
    crop: int = 128
    crops_per_picture: int = 3
    align: int = 1  # corners of crops are multiples of so many pixels
    scene_share: float = 0.7  # the rest are other looks, so that editing and styles have codes to use
    learning_rate: float = 6e-4
    warmup: int = 100
    plain_steps: int = 300  # steps before there is a codebook at all; -1: the model has one
    commitment: float = 0.25
    code_decay: float = 0.99
    restart_every: int = 50
    seed: int = 1


DrawPicture = Callable[[int, int, float], np.ndarray]  # seed, index, share of scenes -> uint8 (canvas, canvas, 3)


def crops(train_config: VQGANTrainConfig, step: int, draw: DrawPicture) -> Tensor:
    """A batch of pixels in 0...1, (B, 3, crop, crop); whole pictures in the last steps."""
    whole = step >= train_config.steps - train_config.whole_steps
    per_picture = 1 if whole else train_config.crops_per_picture
    count = 2 if whole else train_config.batch // per_picture
    size, canvas = train_config.canvas if whole else train_config.crop, train_config.canvas
    rng = np.random.default_rng([train_config.seed, step])
    batch = []
    for i in range(count):
        picture = draw(train_config.seed, step * train_config.batch + i, train_config.scene_share)
        for _ in range(per_picture):
            # Most of a scene is plain; the better of two places by contrast keeps crops on what is hard.
            places = train_config.align * rng.integers(0, (canvas - size) // train_config.align + 1, (2, 2))
            cuts = [picture[y : y + size, x : x + size] for y, x in places]
            batch.append(max(cuts, key=lambda cut: float(cut[::4, ::4].std())))
    return torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + 2 squared error + 0.5 error of the horizontal and vertical differences."""
    error = made - wanted
    edges = (error[..., 1:, :] - error[..., :-1, :]).abs().mean() + (error[..., 1:] - error[..., :-1]).abs().mean()
    return error.abs().mean() + 2 * error.square().mean() + 0.5 * edges


class Codebook:
    """Moving averages behind the codes: how many latents each drew, and their sum."""

    def __init__(self, model: VQGAN, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.count = torch.ones(model.config.codebook_size, device=model.codebook.device)
        self.total = model.codebook.detach().clone()

    @torch.no_grad()
    def seed_from(self, latents: Tensor, rounds: int = 8) -> None:
        """k-means on latents (M, Z), started from a random choice of them."""
        size = len(self.count)
        self.model.codebook.copy_(latents[torch.randperm(len(latents))[:size]])
        for _ in range(rounds):
            self._move(latents, self.model.nearest(latents), decay=0.0)
        self.count.fill_(1.0)
        self.total.copy_(self.model.codebook)

    @torch.no_grad()
    def update(self, latents: Tensor, tokens: Tensor, restart: bool) -> None:
        self._move(latents, tokens, self.decay)
        dead = (self.count < 0.03).nonzero()[:, 0]
        if restart and len(dead):
            # The latents that fit worst ask for a code of their own.
            error = (latents - self.model.codebook[tokens]).square().sum(-1)
            chosen = error.topk(min(len(dead), len(latents) // 4)).indices
            chosen = chosen[torch.randperm(len(chosen))][: len(dead)]
            dead = dead[: len(chosen)]
            self.model.codebook[dead] = latents[chosen]
            self.total[dead] = latents[chosen]
            self.count[dead] = 1.0

    def _move(self, latents: Tensor, tokens: Tensor, decay: float) -> None:
        size = len(self.count)
        drawn = torch.bincount(tokens, minlength=size).float()
        total = torch.zeros_like(self.total).index_add_(0, tokens, latents)
        self.count.mul_(decay).add_(drawn, alpha=1 - decay)
        self.total.mul_(decay).add_(total, alpha=1 - decay)
        moved = self.count > 1e-3
        codes = self.total[moved] / self.count[moved, None]
        if self.model.config.spherical:
            codes = codes * torch.rsqrt(codes.square().mean(-1, keepdim=True) + 1e-6)
        self.model.codebook[moved] = codes


@torch.no_grad()
def initialize(model: VQGAN) -> None:
    """Start as a linear, variance-keeping map of centred pixels: without norms nothing else keeps scales in order."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, ConvResBlock):
            module.conv1.weight.mul_(2**0.5)
    for module in model.modules():
        if isinstance(module, ConvResBlock):  # residual branches start silent
            nn.init.zeros_(module.conv2.weight)
    stem, out = model.encoder.stem, model.decoder.out
    assert stem.bias is not None and out.bias is not None
    stem.weight.mul_(3.0)
    stem.bias.copy_(-0.5 * stem.weight.sum((1, 2, 3)))
    out.weight.mul_(0.2)
    out.bias.fill_(0.5)


def psnr(made: Tensor, wanted: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pixels in 0...1."""
    return float(-10 * torch.log10((made - wanted).square().mean()))


class PictureTrainer(ModuleTrainer):
    """What learns to paint: `draw` gives pictures, and a discriminator may judge with the error of pixels."""

    adversarial: AdversarialLoss | None = None
    draw: DrawPicture

    def crops(self, train_config: VQGANTrainConfig, number: int) -> Tensor:
        """A batch of pixels where the weights are."""
        device = next(self.module.parameters()).device
        return crops(train_config, number, self.draw).to(device).contiguous(memory_format=torch.channels_last)

    def descend(
        self, made: Tensor, wanted: Tensor, rate: float, number: int, also: Tensor | float = 0.0
    ) -> dict[str, float]:
        """One step down the loss of what was painted, with `also` added to it; returns figures for the log."""
        made = made.float()
        loss = reconstruction_loss(made, wanted)
        if self.adversarial:
            loss = self.adversarial(made, wanted, loss, number)
        loss = loss + also
        norm = self.update(loss, rate, number)
        judged = self.adversarial.learn(made.detach(), wanted, number) if self.adversarial else {}
        return {"loss": loss.item(), "psnr": psnr(made.detach().clamp(0, 1), wanted), "norm": norm} | judged

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return super().state() | ({"adversarial": self.adversarial.state()} if self.adversarial else {})

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """See `Trainer`."""
        super().restore(tensors, numbers)
        if self.adversarial:
            self.adversarial.restore(tensors)


def new_vqgan(config: VQGANConfig, seed: int) -> VQGAN:
    """Random weights to begin with."""
    torch.manual_seed(seed)
    model = VQGAN(config)
    initialize(model)
    return model


class VQGANTrainer(PictureTrainer):
    """A VQ-GAN with its codebook."""

    def __init__(
        self,
        model: VQGAN,
        train_config: VQGANTrainConfig,
        draw: DrawPicture,
        adversarial: AdversarialLoss | None = None,
    ) -> None:
        self.train_config, self.draw, self.adversarial = train_config, draw, adversarial
        self.model = convert_conv2d_weight_memory_format(model, torch.channels_last).requires_grad_(True)
        self.model.codebook.requires_grad_(False)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=train_config.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
        super().__init__(self.model, optimizer)
        self.codes = Codebook(self.model, train_config.code_decay)

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        train_config = self.train_config
        torch.manual_seed(int(step_generator(train_config.seed, number, 1).initial_seed()))
        left = (train_config.steps - number) / train_config.steps
        rate = train_config.learning_rate * min(1.0, (number + 1) / train_config.warmup, 0.02 + 1.6 * left)
        wanted = self.crops(train_config, number)
        with torch.autocast(wanted.device.type, torch.bfloat16):
            latents = self.model.latents(wanted).float()
        quantized, commitment = self._quantize(latents, number, left)
        with torch.autocast(wanted.device.type, torch.bfloat16):
            made = self.model.decode_latents(quantized)
        figures = self.descend(made, wanted, rate, number, train_config.commitment * commitment)
        return figures | {"codes": int((self.codes.count > 0.03).sum())}

    def _quantize(self, latents: Tensor, number: int, left: float) -> tuple[Tensor, Tensor]:
        """Latents (B, H, W, Z) as codes, straight through, and their squared error; unchanged in the plain steps."""
        train_config = self.train_config
        if number < train_config.plain_steps:
            return latents, latents.new_zeros(())
        if number == train_config.plain_steps:
            self.codes.seed_from(self._many_latents(number))
        flat = latents.detach().flatten(0, 2)
        tokens = self.model.nearest(flat)
        chosen = self.model.codebook[tokens].view_as(latents)
        commitment = (latents - chosen).square().mean()
        quantized = latents + (chosen - latents).detach()
        self.codes.update(flat, tokens, restart=number % train_config.restart_every == 0 and left > 0.1)
        return quantized, commitment

    @torch.no_grad()
    def _many_latents(self, step: int) -> Tensor:
        batches = (self.crops(self.train_config, step + i) for i in range(12))
        return torch.cat([self.model.latents(pixels).float().flatten(0, 2) for pixels in batches])

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return super().state() | {"codes": {"count": self.codes.count, "total": self.codes.total}}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """See `Trainer`."""
        super().restore(tensors, numbers)
        self.codes.count.copy_(tensors["codes.count"])
        self.codes.total.copy_(tensors["codes.total"])


def train_vqgan(
    config: VQGANConfig,
    train_config: VQGANTrainConfig,
    folder: Path,
    draw: DrawPicture,
) -> VQGAN:
    """Train, or go on training, the VQ-GAN in `folder` on pictures from `draw`; returns it in evaluation mode."""
    trainer = VQGANTrainer(new_vqgan(config, train_config.seed), train_config, draw)
    fit(TrainingRun(folder), trainer, train_config.steps)
    return trainer.model.eval()

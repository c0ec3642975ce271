"""Distil a model's decoder into a small one, for drafts in a fraction of the time.

The codes stay, so a draft's tokens are the finished picture's: the model's own decoder can paint them later. Examples
are the model's own pictures, since those are all it will decode. Distillation as in Hinton et al. 2015, on pixels;
small decoders beside large ones are known from TAESD (Boer Bohan 2023).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from amused_lite.config import ModelConfig, VQGANConfig
from amused_lite.files.safetensors import open_tensors, write_tensors
from amused_lite.models.networks import Weights
from amused_lite.models.vqgan import VQGAN
from amused_lite.training.base_model import BaseModel, Progress, generated_examples, terminal_bar
from amused_lite.training.data.quadrants import TokensAndPixels, random_quadrants
from amused_lite.training.loop.fit import ModuleTrainer, TrainingRun, fit, step_generator
from amused_lite.training.loop.state import Ema
from amused_lite.training.pixels.vqgan import initialize, psnr, reconstruction_loss

TOKENS, PICTURES = "tokens.safetensors", "pictures.safetensors"


@dataclass(frozen=True)
class DistillConfig:
    """How a decoder is distilled.

    Raises:
        ValueError: there are too few pictures to keep some aside.
    """

    widths: tuple[int, ...] = (32, 64)  # of the levels, finest first, each half the side of the one before
    pictures: int = 96  # of the model's own
    steps: int = 1500
    batch: int = 8  # random quadrants of pictures
    learning_rate: float = 2e-3
    warmup: int = 50
    ema_decay: float = 0.995
    held_out: int = 8  # of the pictures, to measure with
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pictures < 2 * self.held_out:
            raise ValueError(f"got {self.pictures} pictures; a draft decoder needs {2 * self.held_out} or more")


class DistilledWeights:
    """`Weights` of a model with a distilled decoder in place of its own."""

    def __init__(self, weights: Weights, vqgan: VQGAN) -> None:
        self.config: ModelConfig = replace(weights.config, vqgan=vqgan.config)
        self._weights, self._vqgan = weights, vqgan

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`; see `Weights`."""
        return self._vqgan if name == "vqgan" else self._weights.part(name)


def own_examples(
    base: BaseModel, prompts: Sequence[str], folder: Path, bar: Progress = terminal_bar
) -> TokensAndPixels:
    """Tokens of the model's own pictures, and how its decoder paints them; made once."""
    tokens = generated_examples(base, prompts, folder / TOKENS, bar).tokens[:, 0]
    cache, key = folder / PICTURES, open_tensors(folder / TOKENS).metadata["of"]
    if not (cache.is_file() and open_tensors(cache).metadata.get("of") == key):
        amused = base.amused()
        painted = [np.array(amused.decode(row.int().numpy())) for row in bar(tokens, "painted in full", len(tokens))]
        write_tensors(cache, {"pictures": np.stack(painted)}, {"of": key})
    return TokensAndPixels(tokens, [*open_tensors(cache).read()["pictures"].copy()])


def with_distilled_decoder(config: VQGANConfig, widths: tuple[int, ...]) -> VQGANConfig:
    """The VQ-GAN with a draft decoder of these widths.

    Raises:
        ValueError: it has a draft decoder already; or see `VQGANConfig`.
    """
    if config.draft:
        raise ValueError("this model's decoder is a draft already; give the model that it was made from")
    return replace(config, draft=widths)


def new_decoder(vqgan: VQGAN, widths: tuple[int, ...], seed: int = 0) -> VQGAN:
    """The same codes and encoder, not copied, and a new decoder of these widths, with random weights.

    Raises:
        ValueError: see `with_distilled_decoder`.
    """
    torch.manual_seed(seed)
    draft = VQGAN(with_distilled_decoder(vqgan.config, widths))
    initialize(draft)
    draft.encoder, draft.pre_quant, draft.post_quant = vqgan.encoder, vqgan.pre_quant, vqgan.post_quant
    draft.codebook = vqgan.codebook
    return draft


class DraftTrainer(ModuleTrainer):
    """A draft decoder, taught by the model's own."""

    def __init__(self, draft: VQGAN, shown: TokensAndPixels, train_config: DistillConfig) -> None:
        self.draft, self.shown, self.train_config = draft, shown, train_config
        decoder = convert_conv2d_weight_memory_format(draft.decoder.requires_grad_(True), torch.channels_last)
        rate = train_config.learning_rate
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=1e-4)
        super().__init__(decoder, optimizer, Ema(decoder, train_config.ema_decay))

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        train_config = self.train_config
        loss = _loss(self.draft, self.shown, train_config, number)
        self.update(
            loss,
            train_config.learning_rate * min((number + 1) / train_config.warmup, 1 - number / train_config.steps),
            number,
        )
        return {"loss": loss.item()}


def distill(base: BaseModel, shown: TokensAndPixels, train_config: DistillConfig, folder: Path) -> VQGAN | None:
    """Train, or go on training, a distilled decoder in `folder`; None when it was stopped before the end."""
    plan = hashlib.sha256(json.dumps([base.hash, asdict(train_config), shown.tokens.tolist()]).encode()).hexdigest()
    run = TrainingRun(folder / plan[:8])  # another recipe, model or choice of prompts is another training
    draft = new_decoder(base.networks.vqgan.requires_grad_(False), train_config.widths, train_config.seed)
    trainer = DraftTrainer(draft, shown, train_config)
    if fit(run, trainer, train_config.steps) is None:
        return None
    trainer.average()
    return draft.requires_grad_(False).eval()


def _loss(draft: VQGAN, shown: TokensAndPixels, train_config: DistillConfig, step: int) -> Tensor:
    generator = step_generator(train_config.seed, step)
    taught = len(shown.pictures) - train_config.held_out
    rows = torch.randint(taught, (train_config.batch,), generator=generator).tolist()
    batch = random_quadrants([(shown, row) for row in rows], generator)
    codes = draft.codebook[batch.tokens].permute(0, 3, 1, 2)
    made = draft.decoder(draft.post_quant(codes).contiguous(memory_format=torch.channels_last))
    return reconstruction_loss(batch.inner(made), batch.pixels)


@torch.no_grad()
def fidelity(draft: VQGAN, shown: TokensAndPixels, train_config: DistillConfig) -> float:
    """PSNR in dB of held-out pictures, draft against the model's own decoder; the mean over pictures."""
    figures = []
    for tokens, picture in list(zip(shown.tokens, shown.pictures, strict=True))[-train_config.held_out :]:
        wanted = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        figures.append(psnr(draft.decode_image(tokens[None]), wanted))
    return float(np.mean(figures))

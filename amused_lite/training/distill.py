"""Teach a small decoder to paint a model's tokens as its own decoder does: for drafts, in a fraction of the time.

The codes stay, so a draft's tokens are the finished picture's: the model's own decoder can paint them later. What is
taught are the model's own pictures, since those are all it will ever decode. Distillation as in Hinton et al. 2015, on
pixels; small decoders beside large ones are known from TAESD (Boer Bohan 2023).
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
from amused_lite.training.base_model import Bar, Base, own_pictures, terminal_bar
from amused_lite.training.loop import Ema, ModuleTrainer, TrainingRun, fit, step_generator
from amused_lite.training.quadrants import Paired, quarters
from amused_lite.training.vqgan import initialize, psnr, reconstruction_loss

TOKENS, PICTURES = "tokens.safetensors", "pictures.safetensors"


@dataclass(frozen=True)
class DraftRecipe:
    """How a draft decoder is taught.

    Raises:
        ValueError: there are too few pictures to keep some aside.
    """

    widths: tuple[int, ...] = (32, 64)  # of the levels, finest first, each half the side of the one before
    pictures: int = 96  # of the model's own
    steps: int = 1500
    batch: int = 8  # quarters of pictures
    learning_rate: float = 2e-3
    warmup: int = 50
    ema_decay: float = 0.995
    held_out: int = 8  # of the pictures, to measure with
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pictures < 2 * self.held_out:
            raise ValueError(f"got {self.pictures} pictures; a draft decoder needs {2 * self.held_out} or more")


class DraftWeights:
    """`Weights` of a model whose tokens a draft decoder paints."""

    def __init__(self, weights: Weights, vqgan: VQGAN) -> None:
        self.config: ModelConfig = replace(weights.config, vqgan=vqgan.config)
        self._weights, self._vqgan = weights, vqgan

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`; see `Weights`."""
        return self._vqgan if name == "vqgan" else self._weights.part(name)


def lessons(base: Base, prompts: Sequence[str], folder: Path, bar: Bar = terminal_bar) -> Paired:
    """Tokens of the model's own pictures, and how its decoder paints them; made once."""
    tokens = own_pictures(base, prompts, folder / TOKENS, bar).tokens[:, 0]
    cache, key = folder / PICTURES, open_tensors(folder / TOKENS).metadata["of"]
    if not (cache.is_file() and open_tensors(cache).metadata.get("of") == key):
        amused = base.amused()
        painted = [np.array(amused.decode(row.int().numpy())) for row in bar(tokens, "painted in full", len(tokens))]
        write_tensors(cache, {"pictures": np.stack(painted)}, {"of": key})
    return Paired(tokens, [*open_tensors(cache).read()["pictures"].copy()])


def with_draft(config: VQGANConfig, widths: tuple[int, ...]) -> VQGANConfig:
    """The VQ-GAN with a draft decoder of these widths.

    Raises:
        ValueError: it has a draft decoder already; or see `VQGANConfig`.
    """
    if config.draft:
        raise ValueError("this model's decoder is a draft already; give the model that it was made from")
    return replace(config, draft=widths)


def untaught(vqgan: VQGAN, widths: tuple[int, ...], seed: int = 0) -> VQGAN:
    """The same codes and encoder, not copied, and an untaught decoder of these widths.

    Raises:
        ValueError: see `with_draft`.
    """
    torch.manual_seed(seed)
    draft = VQGAN(with_draft(vqgan.config, widths))
    initialize(draft)
    draft.encoder, draft.pre_quant, draft.post_quant = vqgan.encoder, vqgan.pre_quant, vqgan.post_quant
    draft.codebook = vqgan.codebook
    return draft


class DraftTrainer(ModuleTrainer):
    """A draft decoder, taught by the model's own."""

    def __init__(self, draft: VQGAN, shown: Paired, recipe: DraftRecipe) -> None:
        self.draft, self.shown, self.recipe = draft, shown, recipe
        decoder = convert_conv2d_weight_memory_format(draft.decoder.requires_grad_(True), torch.channels_last)
        rate = recipe.learning_rate
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=1e-4)
        super().__init__(decoder, optimizer, Ema(decoder, recipe.ema_decay))

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        recipe = self.recipe
        loss = _loss(self.draft, self.shown, recipe, number)
        self.update(loss, recipe.learning_rate * min((number + 1) / recipe.warmup, 1 - number / recipe.steps), number)
        return {"loss": loss.item()}


def teach(base: Base, shown: Paired, recipe: DraftRecipe, folder: Path) -> VQGAN | None:
    """Teach, or go on teaching, a draft decoder in `folder`; None when it was stopped before the end."""
    plan = hashlib.sha256(json.dumps([base.hash, asdict(recipe), shown.tokens.tolist()]).encode()).hexdigest()
    run = TrainingRun(folder / plan[:8])  # another recipe, model or choice of prompts is another training
    draft = untaught(base.networks.vqgan.requires_grad_(False), recipe.widths, recipe.seed)
    trainer = DraftTrainer(draft, shown, recipe)
    if fit(run, trainer, recipe.steps) is None:
        return None
    trainer.average()
    return draft.requires_grad_(False).eval()


def _loss(draft: VQGAN, shown: Paired, recipe: DraftRecipe, step: int) -> Tensor:
    generator = step_generator(recipe.seed, step)
    taught = len(shown.pictures) - recipe.held_out
    rows = torch.randint(taught, (recipe.batch,), generator=generator).tolist()
    batch = quarters([(shown, row) for row in rows], generator)
    codes = draft.codebook[batch.tokens].permute(0, 3, 1, 2)
    made = draft.decoder(draft.post_quant(codes).contiguous(memory_format=torch.channels_last))
    return reconstruction_loss(batch.inner(made), batch.pixels)


@torch.no_grad()
def fidelity(draft: VQGAN, shown: Paired, recipe: DraftRecipe) -> float:
    """PSNR in dB of held-out pictures, draft against the model's own decoder; the mean over pictures."""
    figures = []
    for tokens, picture in list(zip(shown.tokens, shown.pictures, strict=True))[-recipe.held_out :]:
        wanted = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        figures.append(psnr(draft.decode_image(tokens[None]), wanted))
    return float(np.mean(figures))

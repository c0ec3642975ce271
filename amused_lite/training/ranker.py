"""Train an image tower against the frozen text tower, to rank pictures (LiT: Zhai et al. 2022).

The bundle keeps the small CLIP's text tower only, since that is what the U-ViT reads. Ranking needs its other half, and
locking the text leaves every picture of every prompt as it was. Each picture must find its caption among all captions
of the batch and among wrong ones of its own. Each caption must find its picture among all pictures and among spoiled
ones, with an object scrambled, missing or too many, since generated pictures fail in these ways.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import convert_conv2d_weight_memory_format

from amused_lite.config import RANKER_SIDE as SIDE
from amused_lite.models.clip_image import CLIPImage
from amused_lite.models.clip_text import CLIPText
from amused_lite.tokenizer import Tokenizer
from amused_lite.training.loop.fit import ModuleTrainer, TrainingRun, fit, step_generator
from amused_lite.training.world import World

_FULL = 512  # px of the pictures that are ranked
_CELL = SIDE * 16 // _FULL  # side of a token in the pixels that are looked at


@dataclass(frozen=True)
class RankerTrainConfig:
    """How the image tower is trained."""

    steps: int = 1000
    batch: int = 64
    wrong_captions: int = 2
    learning_rate: float = 1.5e-3
    warmup: int = 100
    seed: int = 5


def ranker_batch(
    train_config: RankerTrainConfig, tokenizer: Tokenizer, world: World, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels and spoiled pixels (B, 3, S, S) in 0...1; text ids (B, 1 + wrong, T), the true caption first."""
    pictures, spoiled, captions = [], [], []
    for i in range(train_config.batch):
        index = step * train_config.batch + i
        scene = world.scene(train_config.seed, index)
        rng = random.Random(f"ranker/{train_config.seed}/{index}")
        pictures.append(world.thumbnail(scene, SIDE))
        spoiled.append(world.spoiled(scene, rng))
        wrong = world.hard_negatives(scene, rng)
        rng.shuffle(wrong)
        wrong = (wrong * train_config.wrong_captions)[: train_config.wrong_captions]
        captions += [world.caption(scene, rng), *wrong]
    pixels = torch.from_numpy(np.stack([*pictures, *spoiled])).permute(0, 3, 1, 2).float() / 255
    true, false = wear(pixels, step_generator(train_config.seed, step, 1)).chunk(2)
    return true, false, torch.from_numpy(tokenizer.encode(captions)).long().unflatten(0, (train_config.batch, -1))


def scramble(pixels: np.ndarray, left: int, top: int, side: int, rng: random.Random) -> None:
    """Exchange pieces of one to three tokens within a box, in place.

    Args:
        pixels: (S, S, 3) uint8.
        left: and top and side: the box in px of the picture of 512 px.
    """
    piece = _CELL * rng.randint(1, 3)
    left, top = (max(0, edge * SIDE // _FULL) for edge in (left, top))
    count = min(side * SIDE // _FULL, SIDE - left, SIDE - top) // piece
    box = pixels[top : top + count * piece, left : left + count * piece]
    pieces = box.reshape(count, piece, count, piece, 3).swapaxes(1, 2).reshape(count * count, piece, piece, 3)
    order = list(range(count * count))
    rng.shuffle(order)
    box[:] = pieces[order].reshape(count, count, piece, piece, 3).swapaxes(1, 2).reshape(box.shape)


def wear(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """What decoding does to a picture, mildly and at random: displaced tokens, blur, other colours."""
    count = len(pixels)

    def chance(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    grid = SIDE // _CELL
    place = torch.arange(grid * grid).expand(count, -1)
    step = torch.randint(0, 4, place.shape, generator=generator)
    neighbour = place + torch.tensor([1, -1, grid, -grid])[step]
    moved = chance(grid * grid) < 0.05 * chance(1)
    source = torch.where(moved, neighbour, place).clamp(0, grid * grid - 1)
    cells = F.unfold(pixels, _CELL, stride=_CELL)  # (B, 3 * cell * cell, cells)
    cells = cells.gather(2, source[:, None].expand_as(cells))
    x = F.fold(cells, SIDE, _CELL, stride=_CELL)
    x = torch.where(chance(1, 1, 1) < 0.4, F.avg_pool2d(F.pad(x, (1, 1, 1, 1), "replicate"), 3, 1), x)
    return (x * (0.92 + 0.16 * chance(3, 1, 1)) + 0.06 * (chance(3, 1, 1) - 0.5)).clamp(0, 1)


def locked_text_loss(
    image: Tensor, spoiled: Tensor, text: Tensor, logit_scale: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropies of pictures choosing captions and of captions choosing pictures.

    Args:
        image: vectors of the true pictures (B, P).
        spoiled: vectors of the spoiled ones (B, P).
        text: vectors of each picture's captions, the true one first (B, C, P).
        logit_scale: logarithm of what cosines are multiplied by.
    """
    batch, choices, _ = text.shape
    own = torch.arange(batch)
    to_captions = logit_scale.exp() * image @ text.flatten(0, 1).T  # (B, B * C)
    to_pictures = logit_scale.exp() * text[:, 0] @ torch.cat([image, spoiled]).T  # (B, 2B)
    loss = F.cross_entropy(to_captions, own * choices) + F.cross_entropy(to_pictures, own)
    with torch.no_grad():
        among_own = to_captions.unflatten(1, (batch, choices))[own, own]
        figures = {
            "matched": (to_captions[:, ::choices].argmax(1) == own).float().mean().item(),
            "resisted": (among_own.argmax(1) == 0).float().mean().item(),
            "preferred": (to_pictures[own, own] > to_pictures[own, own + batch]).float().mean().item(),
        }
    return loss, figures


class RankerTrainer(ModuleTrainer):
    """The image tower and what cosines are multiplied by; the text tower stays as it is."""

    def __init__(self, text: CLIPText, train_config: RankerTrainConfig, tokenizer: Tokenizer, world: World) -> None:
        self.train_config, self.tokenizer, self.world = train_config, tokenizer, world
        self.text = text.requires_grad_(False).eval()
        torch.manual_seed(train_config.seed)
        self.model = convert_conv2d_weight_memory_format(CLIPImage(text.config.projection_width), torch.channels_last)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # CLIP's start
        learned = [*self.model.parameters(), self.logit_scale]
        rate = train_config.learning_rate
        super().__init__(self.model, torch.optim.AdamW(learned, lr=rate, betas=(0.9, 0.98), weight_decay=0.05))

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        train_config = self.train_config
        left = (train_config.steps - number) / train_config.steps
        rate = train_config.learning_rate * min(1.0, (number + 1) / train_config.warmup, 0.02 + 1.5 * left)
        true, spoiled, ids = ranker_batch(train_config, self.tokenizer, self.world, number)
        # Plain products for attention, as in clip.py: the fused kernel's backward is slow at these lengths.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            with torch.no_grad():
                pooled = F.normalize(self.text(ids.flatten(0, 1))[1].float(), dim=-1).unflatten(0, ids.shape[:2])
            image, false = self.model(torch.cat([true, spoiled])).float().chunk(2)
        loss, figures = locked_text_loss(image, false, pooled, self.logit_scale)
        self.update(loss, rate, number)
        self.logit_scale.data.clamp_(0, math.log(100))  # CLIP's own limit
        return {"loss": loss.item(), **figures}

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return super().state() | {"logit_scale": self.logit_scale}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """See `Trainer`."""
        super().restore(tensors, numbers)
        self.logit_scale.data = tensors["logit_scale"]


def train_ranker(
    text: CLIPText, train_config: RankerTrainConfig, tokenizer: Tokenizer, world: World, folder: Path
) -> CLIPImage:
    """Train, or go on training, the image tower in `folder`; returns it in evaluation mode."""
    trainer = RankerTrainer(text, train_config, tokenizer, world)
    fit(TrainingRun(folder), trainer, train_config.steps)
    return trainer.model.eval()

"""Go on with a model's VQ-GAN on somebody's own pictures: its decoder alone, all of it, or a new one of its sizes."""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from amused_lite.files import images
from amused_lite.models.vqgan import VQGAN
from amused_lite.training.base_model import BaseModel
from amused_lite.training.data.order import EpochOrder
from amused_lite.training.data.pictures import PictureSource, crop
from amused_lite.training.loop.fit import TrainingRun, fit
from amused_lite.training.pixels.adversarial import AdversarialLoss, PerceptualError
from amused_lite.training.pixels.decoder import DecoderTrainConfig, DecoderTrainer
from amused_lite.training.pixels.vqgan import VQGANTrainConfig, VQGANTrainer, new_vqgan, psnr

Learns = Literal["decoder", "all", "new"]
STEPS: dict[Learns, int] = {"decoder": 2000, "all": 10_000, "new": 100_000}
_MEASURED = 16  # pictures
_SMALLEST_CROP = 32  # px that the discriminator can judge


class OwnPictures:
    """`DrawPicture` of a source: every picture once an epoch, its middle or near it, at the side that a model draws."""

    def __init__(self, source: PictureSource, side: int) -> None:
        self.source, self.side = source, side
        self.bad: set[int] = set()

    def __call__(self, seed: int, index: int, scene_share: float = 1.0) -> np.ndarray:
        """Picture `index` of the stream `seed`, uint8 (side, side, 3); a bad one gives its place to the next.

        Raises:
            ValueError: none can be read.
        """
        count = len(self.source)
        (first,) = EpochOrder(seed, count).samples(index, 1)
        rng = np.random.default_rng([seed, index])
        for number in range(first, first + count):
            image = self._opened(number % count)
            if image is not None:
                return np.array(crop(image, self.side, rng)[0])
        raise ValueError(f"no picture of {self.source.name} can be used; their short sides need {self.side // 2} px")

    def _opened(self, number: int) -> Image.Image | None:
        if number in self.bad:
            return None
        picture = self.source.picture(number)
        problem = ""
        if not isinstance(picture, Image.Image):
            try:
                picture = images.open_picture(picture).image
            except (ValueError, OSError):
                problem = "unreadable"
        if isinstance(picture, Image.Image) and min(picture.size) < self.side // 2:
            problem = "too small"
        if problem:
            self.bad.add(number)
            name = f" ({picture})" if isinstance(picture, Path) else ""
            print(f"amused-lite: warning: picture {number}{name}: {problem}, left out", file=sys.stderr)
            return None
        return picture if isinstance(picture, Image.Image) else None


@dataclass(frozen=True)
class PixelTraining:
    """A model, pictures and settings that fit together."""

    base: BaseModel
    pictures: OwnPictures
    learns: Learns
    config: VQGANTrainConfig
    perceptual: Path | None = None

    @property
    def plan(self) -> str:
        """Hex sha256 of all that decides what is learned."""
        said = [
            self.base.info.model_hash,
            self.pictures.source.said(),
            self.learns,
            asdict(self.config),
            str(self.perceptual),
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def settings(base: BaseModel, learns: Learns, **given: int | float | None) -> VQGANTrainConfig:
    """For this model; `given` are fields of `VQGANTrainConfig`, None where nobody chose.

    Raises:
        ValueError: the crop does not fit the model.
    """
    config, side = base.networks.config.vqgan, base.networks.config.image_size
    steps = given.get("steps") or STEPS[learns]
    usual = VQGANTrainConfig(
        steps=int(steps), whole_steps=0, batch=8, canvas=side, crop=min(side, 256), crops_per_picture=1,
        align=1, learning_rate=1e-4, plain_steps=int(min(300, steps // 10)) if learns == "new" else -1, scene_share=1.0,
    )  # fmt: skip
    chosen = replace(usual, **{name: value for name, value in given.items() if value is not None})
    if chosen.crop % config.downsample_factor or not _SMALLEST_CROP <= chosen.crop <= side:
        fits = f"a multiple of {config.downsample_factor} from {_SMALLEST_CROP} up to {side}"
        raise ValueError(f"--crop {chosen.crop} does not fit the model; give {fits}")
    return chosen


def train(plan: PixelTraining, work: Path) -> BaseModel | None:
    """Train, or go on training, below `work`; returns the model with what was learned, or None when it was stopped."""
    base, config = plan.base, plan.config
    vqgan = base.networks.vqgan
    if plan.learns == "new":
        vqgan = new_vqgan(vqgan.config, config.seed).to(vqgan.codebook.device)
    for parameter in vqgan.parameters():  # weights may be mapped from the model's file
        parameter.data = parameter.data.clone()
    perceptual = PerceptualError(plan.perceptual) if plan.perceptual else None
    judge = AdversarialLoss(vqgan.decoder.out.weight, config.steps // 2, config.learning_rate, perceptual, config.seed)
    if plan.learns == "decoder":
        decoder = DecoderTrainConfig(
            config.steps, config.learning_rate, scene_share=config.scene_share, seed=config.seed
        )
        trainer = DecoderTrainer(vqgan, decoder, config, plan.pictures, judge)
    else:
        trainer = VQGANTrainer(vqgan, config, plan.pictures, judge)
    if fit(TrainingRun(work / plan.plan[:8]), trainer, config.steps) is None:
        return None
    if isinstance(trainer, DecoderTrainer):
        trainer.average()
    networks = base.networks
    networks.vqgan = vqgan.requires_grad_(False).eval()
    return replace(base, networks=networks.cpu())


@torch.no_grad()
def quality(vqgan: VQGAN, pictures: OwnPictures) -> tuple[float, int]:
    """PSNR in dB of up to 16 pictures through the codes, the mean over pictures; and how many codes they take.

    Raises:
        ValueError: no picture can be read.
    """
    figures, codes = [], set()
    for index in range(min(_MEASURED, len(pictures.source))):
        pixels = torch.from_numpy(pictures(0, index)).permute(2, 0, 1)[None].float() / 255
        tokens = vqgan.encode_image(pixels.to(vqgan.codebook.device))
        figures.append(psnr(vqgan.decode_image(tokens).cpu(), pixels))
        codes |= set(tokens.flatten().tolist())
    return float(np.mean(figures)), len(codes)

"""The storybook model from nothing, stage by stage; every stage resumes where it stopped and skips what is done.

    drawings -> tokenizer -> vqgan -> tokens-256 -> uvit-256 -> tokens-512 -> uvit-512 -> decoder

The U-ViT learns on pictures of 256 px first, where a drawing costs a quarter of the work and is a larger part of what
is asked, and is then grown to 512 px, as aMUSEd was. Drawings have the same sizes in both, and so the same tokens.
A `tokens` stage may run in a second process beside its `uvit`, whose pool of pictures grows with the steps.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from amused_lite.config import PRESETS, ModelConfig
from amused_lite.models.clip_text import CLIPText
from amused_lite.models.networks import Networks
from amused_lite.models.uvit import UViT
from amused_lite.models.vqgan import VQGAN
from amused_lite.tokenizer import Tokenizer
from amused_lite.training import scenes, storybook
from amused_lite.training.decoder import DecoderRecipe, train_decoder
from amused_lite.training.loop import TrainingRun, step_generator, subset
from amused_lite.training.tokens import TokenPool, encode_pictures
from amused_lite.training.uvit import RECIPES, Batches, Samples, UViTRecipe, initialize, train_uvit
from amused_lite.training.vqgan import VQGANRecipe, train_vqgan

STAGES = ("tokenizer", "vqgan", "tokens-256", "uvit-256", "tokens-512", "uvit-512", "decoder")
SCENE_SEED = 5  # scenes of this seed are the U-ViT's training set


# Crops on the token grid, as the drawings are: a drawing then has the same pixels in every token it fills.
_VQGAN = VQGANRecipe(steps=2400, whole_steps=100, plain_steps=200, align=16, scene_share=0.85, learning_rate=5e-4)


@dataclass(frozen=True)
class CanvasPlan:
    """How the U-ViT is trained on pictures of one size."""

    recipe: UViTRecipe
    pictures: int  # encoded in all
    first_pictures: int = 4096  # what it starts with while the rest is still being encoded
    pictures_per_step: float = 12.0


@dataclass(frozen=True)
class StorybookBuild:
    """Where the runs live and how much of everything; the defaults made the bundled model."""

    folder: Path
    config: ModelConfig = PRESETS["storybook"]
    vqgan: VQGANRecipe = _VQGAN
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)
    small: CanvasPlan = CanvasPlan(replace(RECIPES["storybook"], batch=32, cooldown=0), 200_000)
    full: CanvasPlan = CanvasPlan(replace(RECIPES["storybook"], batch=16, seed=4), 60_000, pictures_per_step=4.0)

    def run(self, stage: str, stop_after: int | None = None) -> bool:
        """Run one stage of `STAGES`; returns whether it came to its end.

        Args:
            stop_after: end this session of the U-ViT after so many steps.
        """
        name, _, canvas = stage.partition("-")
        match name:
            case "tokenizer":
                self.train_tokenizer()
            case "vqgan":
                train_vqgan(self.config.vqgan, self.vqgan, self.folder / "vqgan", draw_picture)
                return self._steps("vqgan") == self.vqgan.steps
            case "tokens":
                plan = self.plan(int(canvas))
                self._check_scenes(int(canvas))
                encode_pictures(self.vqgan_model(), self.folder / stage, self._drawn(int(canvas)), plan.pictures)
            case "uvit":
                self.train_uvit(int(canvas), stop_after)
                return self._steps(stage) == self.plan(int(canvas)).recipe.steps
            case "decoder":
                train_decoder(self.vqgan_model(), self.decoder, self.vqgan, self.folder / "decoder", draw_picture)
                return self._steps("decoder") == self.decoder.steps
            case _:
                raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}")
        return True

    def plan(self, canvas: int) -> CanvasPlan:
        """Of the two sizes of training pictures, 256 and 512 px."""
        return {256: self.small, 512: self.full}[canvas]

    def train_tokenizer(self) -> None:
        """Byte-pair merges from 40,000 captions."""
        if not self.tokenizer_file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            captions = [
                storybook.caption(storybook.random_scene(SCENE_SEED, index, "train", 512), random.Random(index))
                for index in range(40_000)
            ]
            text = self.config.text
            Tokenizer.train(captions, text.vocab_size, text.context_length).save(self.tokenizer_file)

    @property
    def tokenizer_file(self) -> Path:
        """Where `tokenizer` reads from."""
        return self.folder / "tokenizer.json"

    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer."""
        text = self.config.text
        return Tokenizer.from_file(self.tokenizer_file, text.context_length, text.start_token_id, text.end_token_id)

    def vqgan_model(self) -> VQGAN:
        """As trained with its codes, without the finished decoder."""
        model = convert_conv2d_weight_memory_format(VQGAN(self.config.vqgan), torch.channels_last)
        model.load_state_dict(self._weights("vqgan"))
        return model.eval()

    def train_uvit(self, canvas: int, stop_after: int | None = None) -> None:
        """One of the two parts; the second begins with the averaged weights of the first."""
        plan, stage = self.plan(canvas), f"uvit-{canvas}"
        self._check_scenes(canvas)
        scored = self.scored
        pool = TokenPool(
            self.folder / f"tokens-{canvas}",
            plan.first_pictures,
            plan.pictures_per_step,
            plan.pictures,
            reserved=lambda index: storybook.meaning(self.scene(canvas, index)) in scored,
        )
        torch.manual_seed(plan.recipe.seed)
        uvit, text = UViT(self.config.uvit).train(), CLIPText(self.config.text)
        if canvas == 256:
            initialize(uvit)
            _initialize_text(text)
        else:
            nn.ModuleDict({"uvit": uvit, "text": text}).load_state_dict(self._weights("uvit-256", "ema"))
        batches = Batches(plan.recipe, StorybookSource(pool, lambda index: self.scene(canvas, index)), self.tokenizer())
        train_uvit(uvit, text, plan.recipe, batches, self.folder / stage, stop_after)
        TrainingRun(self.folder / stage).plot("loss", "norm")

    @cached_property
    def scored(self) -> frozenset[tuple[object, ...]]:
        """What the held-out prompts mean; the U-ViT trains on no such scene."""
        return frozenset(storybook.meaning(prompt.scene) for prompt in storybook.heldout_prompts())

    def scene(self, canvas: int, index: int) -> storybook.Scene:
        """Training scene number `index` of one size."""
        return storybook.random_scene(SCENE_SEED, index, "train", canvas)

    def _check_scenes(self, canvas: int) -> None:
        """Tokens are kept by scene number, so the stream must be the one they were made from.

        Raises:
            ValueError: the code that composes scenes has changed since.
        """
        said = "\n".join(repr(self.scene(canvas, index)) for index in range(0, 2000))
        digest, kept = hashlib.sha256(said.encode()).hexdigest(), self.folder / f"tokens-{canvas}" / "scenes.sha256"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(digest)
        elif kept.read_text() != digest:
            raise ValueError(
                f"{kept.parent} was encoded from other scenes than this version composes; go on with the version that "
                "made it, or delete the folder to encode them again"
            )

    def _drawn(self, canvas: int) -> Callable[[int], np.ndarray]:
        return lambda index: storybook.draw(self.scene(canvas, index))

    def networks(self, canvas: int = 512) -> Networks:
        """What was trained so far on pictures of this size, for pictures of this size, with averaged weights."""
        grid = canvas // self.config.vqgan.downsample_factor
        networks = Networks(replace(self.config, uvit=replace(self.config.uvit, grid=grid)))
        weights = self._weights(f"uvit-{canvas}", "ema")
        positions = UViT(self.config.uvit)
        positions.load_state_dict(subset(weights, "uvit"))
        networks.uvit.load_state_dict(subset(weights, "uvit") | {
            "token_side.positions": positions.token_side.positions_for(networks.config.uvit.inner_grid)
        })  # fmt: skip
        networks.text.load_state_dict(subset(weights, "text"))
        networks.vqgan = convert_conv2d_weight_memory_format(self.vqgan_model(), torch.contiguous_format)
        if self._steps("decoder"):
            finished = nn.ModuleList([networks.vqgan.post_quant, networks.vqgan.decoder])
            finished.load_state_dict(self._weights("decoder", "ema"))
        return networks.eval()

    def _steps(self, stage: str) -> int:
        saved = TrainingRun(self.folder / stage).load()
        return saved[0] if saved else 0

    def _weights(self, stage: str, prefix: str = "model") -> dict[str, torch.Tensor]:
        saved = TrainingRun(self.folder / stage).load()
        if saved is None:
            raise FileNotFoundError(f"{self.folder / stage} has no checkpoint yet; run the stage {stage!r} first")
        return subset(saved[1], prefix)


class StorybookSource:
    """Storybook scenes as training samples; each time another of a scene's captions."""

    def __init__(self, pool: TokenPool, scene: Callable[[int], storybook.Scene]) -> None:
        self.pool, self.scene = pool, scene

    def samples(self, seed: int, step: int, size: int) -> Samples:
        """See `Source`."""
        indices, tokens = self.pool.batch(seed, step, size)
        shown = [self.scene(index) for index in indices]
        captions = [storybook.caption(scene, random.Random(f"{seed}/{step}/{row}")) for row, scene in enumerate(shown)]
        return Samples(captions, tokens, np.concatenate([storybook.micro(scene).array() for scene in shown]))


def draw_picture(seed: int, index: int, scene_share: float) -> np.ndarray:
    """A picture (512, 512, 3) uint8 for the VQ-GAN: a scene, or a look that no scene has."""
    if step_generator(seed, index, 7).initial_seed() % 1000 < 1000 * scene_share:
        return storybook.draw(storybook.random_scene(seed, index, "all", 512))
    return scenes.random_look(seed, index)


def _initialize_text(text: CLIPText) -> None:
    """Words must not drown in what the layers add: embeddings are large beside it (docs/log.md)."""
    for name, parameter in text.named_parameters():
        if name == "embedding.weight":
            nn.init.normal_(parameter, std=1.0)
        elif name == "positions":
            nn.init.normal_(parameter, std=0.3)
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)


def main() -> None:
    """Run the named stages, one after the other."""
    import argparse

    from amused_lite.training.loop import use_threads

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    use_threads(args.threads)
    for stage in args.stages:
        if not StorybookBuild(args.folder).run(stage):
            raise SystemExit(130)


if __name__ == "__main__":
    main()

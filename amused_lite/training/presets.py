"""How the models of each world are built: `WORLDS`, and the same in miniature."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from amused_lite.config import PRESETS
from amused_lite.training.build import Build, UViTPart
from amused_lite.training.clip import CLIPTrainConfig
from amused_lite.training.pixels.vqgan import VQGANTrainConfig
from amused_lite.training.ranker import RankerTrainConfig
from amused_lite.training.uvit_config import RECIPES


def storybook(folder: Path) -> Build:
    """Hundreds of things in five hands, see docs/training/storybook.md.

    The U-ViT learns drawings one by one on pictures of 192 px, then scenes of 256 px, and is then grown to 512 px, as
    aMUSEd was: a small picture costs less and shows more of a drawing. Drawings have the same sizes in all, and so the
    same tokens. A third of a step of 32 is Muon's orthogonalization, whatever the batch: 64 are shown at once. Crops
    for the VQ-GAN lie on the token grid, as the drawings do: a drawing then has the same pixels in every token it
    fills.
    """
    from amused_lite.training.storybook.world import Storybook

    train_config = RECIPES["storybook"]
    first = replace(train_config, steps=12_000, batch=64, learning_rate=1.9e-3, muon_learning_rate=3.75e-3, cooldown=0)
    return Build(
        folder,
        Storybook(),
        PRESETS["storybook"],
        parts={
            "-192": UViTPart(first, 40_960, 4096, 12.0, canvas=192),
            "-256": UViTPart(first, 66_560, 4096, 12.0, canvas=256),
            "-512": UViTPart(replace(train_config, batch=16, seed=4), 60_000, 4096, 4.0),
        },
        captions=40_000,
        vqgan=VQGANTrainConfig(
            steps=2400, whole_steps=100, plain_steps=200, align=16, scene_share=0.85, learning_rate=5e-4
        ),
        ranker=RankerTrainConfig(seed=6),
    )


def scenes(folder: Path) -> Build:
    """Twelve kinds of things: the recipe of the bundled model `tiny`. Its text tower is a small CLIP's, frozen."""
    from amused_lite.training.scenes.world import Scenes

    return Build(
        folder,
        Scenes(),
        PRESETS["tiny"],
        parts={"": UViTPart(RECIPES["tiny"], 40_960, 3_584, 2.5)},
        captions=20_000,
        vqgan=VQGANTrainConfig(),
        clip=CLIPTrainConfig(),
    )


WORLDS: dict[str, Callable[[Path], Build]] = {"storybook": storybook, "scenes": scenes}


def small(build: Build) -> Build:
    """The same in minutes, to see that the machinery works; its pictures are nothing."""

    def part(plan: UViTPart) -> UViTPart:
        train_config = replace(plan.train_config, steps=20, batch=2, warmup=5, cooldown=5, compile=False)
        return replace(plan, train_config=train_config, pictures=512, first_pictures=512)

    return replace(
        build,
        parts={name: part(plan) for name, plan in build.parts.items()},
        vqgan=replace(build.vqgan, steps=30, whole_steps=2, plain_steps=10, batch=6),
        decoder=replace(build.decoder, steps=10),
        ranker=replace(build.ranker, steps=5, batch=4),
        clip=replace(build.clip, steps=10, batch=8) if build.clip else None,
    )

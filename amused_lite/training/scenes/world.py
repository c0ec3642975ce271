"""The first world, of twelve kinds of things: what the bundled model `tiny` learned from."""

import random
from functools import cached_property
from pathlib import Path

import numpy as np

from amused_lite.conditioning import MicroConditioning
from amused_lite.config import RANKER_SIDE
from amused_lite.training import scenes
from amused_lite.training.ranker import scramble
from amused_lite.training.scenes import Scene
from amused_lite.training.scenes.captions import words
from amused_lite.training.world import Split
from amused_lite.vocabulary import Groups


class Scenes:
    """See `World`."""

    name = "scenes"
    seed = 3

    def fetch(self, folder: Path) -> None:
        """Nothing: all of it is drawn by code."""

    def use(self, folder: Path) -> None:
        """Nothing."""

    def scene(self, seed: int, index: int, split: Split = "train", canvas: int = 512) -> Scene:
        """See `World`; there are pictures of 512 px only."""
        assert canvas == scenes.SIZE
        return scenes.random_scene(seed, index, split)

    def draw(self, scene: Scene) -> np.ndarray:
        """See `World`."""
        return scenes.draw(scene)

    def thumbnail(self, scene: Scene, side: int) -> np.ndarray:
        """See `World`."""
        return scenes.draw(scene, side)

    def spoiled(self, scene: Scene, rng: random.Random) -> np.ndarray:
        """A thing is missing, too many, or scrambled."""
        things = list(scene.things)
        fault = rng.random()
        if fault < 0.25 and len(things) > 1:
            things.remove(rng.choice(things))
        elif fault < 0.5:
            x, y = (rng.randrange(64, scenes.SIZE - 64) for _ in range(2))
            kind, colour = rng.choice(scenes.KINDS), rng.choice(list(scenes.COLOURS))
            things.append(scenes.Thing(kind, colour, x, y, rng.choice((112, 128, 160))))
        pixels = scenes.draw_things(scene.backdrop, scene.variant, scene.style, tuple(things), RANKER_SIDE)
        if len(things) == len(scene.things):
            thing = rng.choice(things)
            scramble(pixels, thing.x - thing.size // 2, thing.y - thing.size // 2, thing.size, rng)
        return pixels

    def caption(self, scene: Scene, rng: random.Random) -> str:
        """See `World`."""
        return scenes.caption(scene, rng)

    def words(self) -> Groups:
        """See `World`."""
        return words()

    def hard_negatives(self, scene: Scene, rng: random.Random) -> list[str]:
        """See `World`."""
        return scenes.hard_negatives(scene, rng)

    def micro(self, scene: Scene) -> MicroConditioning:
        """A whole picture."""
        return MicroConditioning(scenes.SIZE, scenes.SIZE)

    @cached_property
    def _scored(self) -> frozenset[object]:
        return frozenset(scenes.meaning(prompt.scene) for prompt in scenes.heldout_prompts())

    def weights(self, scene: Scene) -> None:
        """See `World`."""

    def is_scored(self, scene: Scene) -> bool:
        """See `World`."""
        return scenes.meaning(scene) in self._scored

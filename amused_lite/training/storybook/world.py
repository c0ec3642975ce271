"""The storybook as a world to learn from, see `training.world`."""

import random
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from amused_lite.conditioning import MicroConditioning
from amused_lite.config import RANKER_SIDE
from amused_lite.training import storybook
from amused_lite.training.ranker import scramble
from amused_lite.training.storybook.captions import words
from amused_lite.training.storybook.draw import draw_things, settled
from amused_lite.training.storybook.drawings.render import use_folder
from amused_lite.training.storybook.fetch import fetch
from amused_lite.training.storybook.kinds import available
from amused_lite.training.storybook.layout import EXTRA_SIDE, PlacedThing
from amused_lite.training.storybook.sampling import NAMES
from amused_lite.training.storybook.scene import CELL, StoryScene
from amused_lite.training.world import Split
from amused_lite.vocabulary import Groups

THING_WEIGHT = 3.0  # of a token in a thing's box beside one of the place


class Storybook:
    """See `World`."""

    name = "storybook"
    seed = 5

    def fetch(self, folder: Path) -> None:
        """The five sets of drawings, see `fetch`."""
        fetch(folder)

    def use(self, folder: Path) -> None:
        """See `World`."""
        use_folder(folder)

    def scene(self, seed: int, index: int, split: Split = "train", canvas: int = 512) -> StoryScene:
        """See `World`; pictures have the px of `CANVASES`."""
        return storybook.random_scene(seed, index, split, canvas)

    def draw(self, scene: StoryScene) -> np.ndarray:
        """See `World`."""
        return storybook.draw(scene)

    def thumbnail(self, scene: StoryScene, side: int) -> np.ndarray:
        """See `World`; whole and without clutter, of which captions do not speak."""
        return _shrunk(storybook.draw(_plain(scene)), side)

    def spoiled(self, scene: StoryScene, rng: random.Random) -> np.ndarray:
        """A thing is missing, too many, or scrambled."""
        scene = _plain(scene)
        things, fault = settled(scene), rng.random()
        many = len(things)
        if fault < 0.25 and many > 1:
            things.remove(rng.choice(things))
        elif fault < 0.5:
            things.append(_extra(scene, rng))
        pixels = _shrunk(draw_things(scene, things), RANKER_SIDE)
        if len(things) == many:
            thing = rng.choice(things)
            scramble(pixels, thing.x, thing.y, thing.side, rng)
        return pixels

    def caption(self, scene: StoryScene, rng: random.Random) -> str:
        """See `World`."""
        return storybook.caption(scene, rng)

    def words(self) -> Groups:
        """See `World`."""
        return words()

    def hard_negatives(self, scene: StoryScene, rng: random.Random) -> list[str]:
        """See `World`."""
        return storybook.hard_negatives(scene, rng)

    def micro(self, scene: StoryScene) -> MicroConditioning:
        """See `World`."""
        return storybook.micro(scene)

    def weights(self, scene: StoryScene) -> np.ndarray:
        """See `World`; tokens in a thing's box are asked more often, since there are so many drawings to learn."""
        top, left = scene.crop or (0, 0)
        cells = np.ones((scene.canvas // CELL, scene.canvas // CELL), np.float32)
        for thing in settled(scene):
            rows, columns = (
                slice(max(0, start // CELL), max(0, -(-(start + thing.side) // CELL)))
                for start in (thing.y - top, thing.x - left)
            )
            cells[rows, columns] = THING_WEIGHT
        return cells.ravel()

    @cached_property
    def _scored(self) -> frozenset[object]:
        return frozenset(storybook.meaning(prompt.scene) for prompt in storybook.heldout_prompts())

    def is_scored(self, scene: StoryScene) -> bool:
        """See `World`."""
        return storybook.meaning(scene) in self._scored


def _plain(scene: StoryScene) -> StoryScene:
    return replace(scene, crop=None, clutter=())


def _shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    """As the ranker shrinks pictures: averages of areas."""
    return np.array(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def _extra(scene: StoryScene, rng: random.Random) -> PlacedThing:
    """A thing too many: another of those that are counted, else one that the caption does not name."""
    known = [kind for kind in NAMES if kind not in scene.kinds and scene.hand in available(kind)]
    kind = scene.kinds[0] if scene.layout == "count" else rng.choice(known)
    x, y = (CELL * rng.randrange((scene.canvas - EXTRA_SIDE) // CELL + 1) for _ in range(2))
    return PlacedThing(kind, None, x, y, EXTRA_SIDE, "air")

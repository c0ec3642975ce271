"""Train the judge of the storybook on fresh renders: pages as they are, and pages with things anywhere.

Degraded as generated pictures are (`judge_training.wear`), with distractors that demand a shape and not just its
colours: things with their cells shuffled, and things that are blots of their own colours.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from amused_lite.evaluation.judge_training import PEAK_WIDTH, shuffle_cells, wear
from amused_lite.evaluation.story_judge import (
    HEADS,
    OWN,
    PAGE,
    PAGE_HEADS,
    STRIDE,
    StoryDetector,
    StoryJudge,
    to_pixels,
)
from amused_lite.training.loop.fit import ModuleTrainer, TrainingRun, fit
from amused_lite.training.storybook import random_scene
from amused_lite.training.storybook.draw import draw_things, settled
from amused_lite.training.storybook.kinds import KINDS, available
from amused_lite.training.storybook.layout import PlacedThing
from amused_lite.training.storybook.scene import CELL, SIZES, StoryScene

BATCH, STEPS, RATE = 32, 3000, 2e-3
CANVAS = 2 * PAGE
LARGE_SHARE = 0.1  # of pages of 512 px, of which the page alone is learned
ANYWHERE_SHARE = 0.6  # of pages whose things lie anywhere
SMALLEST_VIEW = 208  # px of a page that a lesson shows at least
_CELLS = PAGE * 2 // STRIDE
_STREAM = 1_000_003  # of scenes, so that none are those that the generator learns from


@dataclass(frozen=True)
class StoryLesson:
    """A picture (128, 128, 3) uint8, what is said of its page, and its things; None where they are not to be learned.

    Boxes are in px of a picture twice as large.
    """

    pixels: np.ndarray
    scene: StoryScene
    things: list[PlacedThing] | None


class StoryJudgeTrainer(ModuleTrainer):
    """The detector and its optimizer, see `Trainer`."""

    def __init__(self, steps: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.steps, self.seed = steps, seed
        self.detector = StoryDetector()
        super().__init__(self.detector, torch.optim.AdamW(self.detector.parameters(), lr=RATE, weight_decay=0.02))

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`: one cycle, a warm-up in the first twentieth and a cosine to zero after it."""
        progress = number / self.steps
        rate = RATE * min(progress * 20 + 0.02, 0.5 + 0.5 * math.cos(math.pi * progress))
        with torch.autocast("cpu", torch.bfloat16):
            loss = lesson_loss(self.detector, story_lessons(self.seed, number))
        self.update(loss, rate, number)
        return {"loss": loss.item()}


def train_story_judge(folder: Path, steps: int = STEPS, seed: int = 0) -> StoryJudge:
    """Train, or go on training, in `folder`, and write `judge.safetensors` there when done.

    Needs the fetched drawings, see `World.use`.

    Raises:
        KeyboardInterrupt: it was told to stop; the same call goes on.
    """
    trainer = StoryJudgeTrainer(steps, seed)
    if not fit(TrainingRun(folder), trainer, steps):
        raise KeyboardInterrupt
    judge = StoryJudge(trainer.detector)
    judge.save(folder / "judge.safetensors")
    return judge


def story_lessons(seed: int, step: int) -> list[StoryLesson]:
    """The lessons of a step; every kind in every hand is among them, held-out ones too."""
    rng = np.random.default_rng([seed, step])
    return [_lesson(rng, seed, step * BATCH + number) for number in range(BATCH)]


def _lesson(rng: np.random.Generator, seed: int, index: int) -> StoryLesson:
    large = rng.random() < LARGE_SHARE
    scene = random_scene(seed + _STREAM, index, "all", 2 * CANVAS if large else CANVAS)
    if large:
        picture = Image.fromarray(draw_things(scene, settled(scene))).reduce(4)
        return StoryLesson(wear(np.array(picture), CELL // 4, rng), scene, None)
    scene = replace(scene, crop=None)
    return _seen(scene, _anywhere(scene, rng) if rng.random() < ANYWHERE_SHARE else settled(scene), rng)


def _anywhere(scene: StoryScene, rng: np.random.Generator) -> list[PlacedThing]:
    """Up to four things in boxes that overlap little, anywhere on the page."""
    drawn = [kind for kind in KINDS if scene.hand in available(kind)]
    placed: list[PlacedThing] = []
    for _ in range(3 * int(rng.integers(1, 5))):
        side = int(rng.choice(list(SIZES.values()) if not placed else [SIZES["small"], 128]))
        x, y = (int(corner) for corner in rng.integers(0, CANVAS - side + 1, 2))
        apart = (
            max(abs(x + side / 2 - one.x - one.side / 2), abs(y + side / 2 - one.y - one.side / 2)) for one in placed
        )
        if all(gap > 0.42 * (side + one.side) for gap, one in zip(apart, placed, strict=True)):
            kind = placed[0].kind if placed and rng.random() < 0.3 else str(rng.choice(drawn))
            colours = [c for c in KINDS[kind].colours if scene.hand in available(kind, c)]
            colour = str(rng.choice(colours)) if colours and rng.random() < 0.4 else None
            placed.append(PlacedThing(kind, colour, x, y, side, "ground" if rng.random() < 0.5 else "air"))
    return placed


def _seen(scene: StoryScene, things: list[PlacedThing], rng: np.random.Generator) -> StoryLesson:
    """A part of the page, shrunk to `PAGE`, with the things moved along; one that stands alone may be a distractor."""
    page = draw_things(scene, things)
    if len(things) > 1 and rng.random() < 0.3 and not _overlap(things[0], things[1:]):
        false, *things = things
        _spoil(page[false.y : false.y + false.side, false.x : false.x + false.side], rng)
    view = int(rng.integers(SMALLEST_VIEW, CANVAS + 1))
    left, top = (int(corner) for corner in rng.integers(0, CANVAS - view + 1, 2))
    image = Image.fromarray(page).resize((PAGE, PAGE), Image.Resampling.BOX, (left, top, left + view, top + view))
    scale = CANVAS / view
    moved = [
        replace(one, x=round((one.x - left) * scale), y=round((one.y - top) * scale), side=round(one.side * scale))
        for one in things
    ]
    return StoryLesson(wear(np.array(image), CELL // 2, rng), scene, moved)


def _overlap(thing: PlacedThing, others: list[PlacedThing]) -> bool:
    return any(
        -other.side < thing.x - other.x < other.side and -other.side < thing.y - other.y < other.side
        for other in (replace(one, side=max(one.side, thing.side)) for one in others)
    )


def _spoil(box: np.ndarray, rng: np.random.Generator) -> None:
    """Shuffle the cells of a box, or make blots of them, in place."""
    if rng.random() < 0.5:
        shuffle_cells(box, CELL, rng)
    else:
        few = int(rng.integers(3, 6))
        small = Image.fromarray(box).resize((few, few), Image.Resampling.BOX)
        box[:] = np.array(small.resize((len(box), len(box)), Image.Resampling(int(rng.integers(0, 4, endpoint=False)))))


def lesson_loss(detector: StoryDetector, lessons: list[StoryLesson]) -> Tensor:
    """Binary cross-entropy of centres, cross-entropy of what things are where centres are, and of the page."""
    centre, said = detector(to_pixels([lesson.pixels for lesson in lessons]))
    heat, cells = (torch.from_numpy(np.stack(parts)) for parts in zip(*map(_targets, lessons), strict=True))
    known = torch.tensor([lesson.things is not None for lesson in lessons])
    loss = 32 * functional.binary_cross_entropy_with_logits(centre[known], heat[known])
    weight = heat * (heat > 0.4)
    for number, name in enumerate(HEADS):
        errors = functional.cross_entropy(said[name], cells[:, number], reduction="none")
        loss = loss + (errors * weight).sum() / weight.sum().clamp(min=1)
    for name, choices in PAGE_HEADS.items():
        asked = torch.tensor([choices.index(getattr(lesson.scene, name)) for lesson in lessons])
        loss = loss + functional.cross_entropy(said[name], asked)
    return loss


def _targets(lesson: StoryLesson) -> tuple[np.ndarray, np.ndarray]:
    """Centre heat (16, 16) in 0...1, and the index in each of `HEADS` of the nearest thing (3, 16, 16)."""
    heat, cells = np.zeros((_CELLS, _CELLS), np.float32), np.zeros((len(HEADS), _CELLS, _CELLS), np.int64)
    rows, columns = np.mgrid[:_CELLS, :_CELLS] + 0.5
    for thing in lesson.things or []:
        x, y = ((corner + thing.side / 2) / STRIDE for corner in (thing.x, thing.y))
        if not (0 < x < _CELLS and 0 < y < _CELLS):
            continue
        peak = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * PEAK_WIDTH**2)).astype(np.float32)
        peak /= peak.max()
        nearest = peak > heat
        heat[nearest] = peak[nearest]
        what = {"kind": thing.kind, "hand": lesson.scene.hand, "colour": thing.colour or OWN}
        for number, (name, choices) in enumerate(HEADS.items()):
            cells[number][nearest] = choices.index(what[name])
    return heat, cells

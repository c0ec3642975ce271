"""Train the judge on fresh renders with objects anywhere, degraded as generated pictures are, and with distractors.

The wear (blur, noise, JPEG, misplaced cells, shifted colours) makes it tolerant of small faults; the distractors (plain
blobs, things with their cells shuffled) make it demand a shape and not just a patch of colour.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from amused_lite.evaluation.judge import GRID, INPUT, STRIDE, Detector, Judge
from amused_lite.system import paths
from amused_lite.training.scenes import BACKDROPS, CELL, COLOURS, KINDS, SIZE, STYLES, VARIANTS, Thing, draw_things
from amused_lite.training.scenes.draw import INK

Restyle = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # of a picture (256, 256, 3) uint8

BATCH = 32
STEPS = 2000  # about 8 minutes of one core
PEAK_WIDTH = 0.7  # of a centre in the target, in cells
SMALLEST, LARGEST = 104, 288  # sides of things, px
CROWDED = 176  # largest side when there are several
COLOUR_NAMES = tuple(COLOURS)
CELL_AT_INPUT = CELL * INPUT // SIZE


@dataclass(frozen=True)
class Lesson:
    """A training example: a picture (128, 128, 3) uint8 and its labels."""

    pixels: np.ndarray
    backdrop: str
    things: tuple[Thing, ...]


def default_judge_path() -> Path:
    """Where the judge is kept between runs: the user's cache directory, never the repository."""
    return paths.cache("judge.safetensors")


def train_judge(
    steps: int = STEPS,
    path: str | os.PathLike[str] | None = None,
    seed: int = 0,
    bfloat16: bool = True,
    restyle: Restyle | None = None,
) -> Judge:
    """Train a judge in so many steps on lessons of the given seed and save it to `path` (default: the cache).

    Steps and not minutes, so that a busy machine teaches it as much as an idle one.

    `bfloat16` doubles the speed on processors that multiply in it and should be off on others. `restyle` gives lessons
    other looks, for a judge of pictures in them.
    """
    path = Path(path) if path else default_judge_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    detector = Detector()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3, weight_decay=0.02)
    for step in tqdm(range(steps), "teaching the judge", file=sys.stderr, disable=None):
        # One cycle: warm-up in the first twentieth, cosine to zero after it.
        progress = step / steps
        optimizer.param_groups[0]["lr"] = 2e-3 * min(progress * 20 + 0.02, 0.5 + 0.5 * np.cos(np.pi * progress))
        lessons = [make_lesson(rng, restyle) for _ in range(BATCH)]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = _loss(detector, lessons)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    judge = Judge(detector)
    judge.save(path)
    return judge


def make_lesson(rng: np.random.Generator, restyle: Restyle | None = None) -> Lesson:
    """One example: zero to four objects, up to two distractors, degradation."""
    backdrop, style = str(rng.choice(BACKDROPS)), str(rng.choice(STYLES, p=(0.6, 0.2, 0.2)))
    shown, false = int(rng.choice(5, p=(0.04, 0.36, 0.3, 0.15, 0.15))), int(rng.choice(3, p=(0.6, 0.3, 0.1)))
    places = _free_places(rng, shown + false)
    alike = rng.random() < 0.3
    first = _random_subject(rng)
    subjects = [first if alike else _random_subject(rng) for _ in places]
    things = tuple(Thing(*subject, *place) for subject, place in zip(subjects, places, strict=True))
    false = min(false, len(things))
    shuffled = [thing for thing in things[:false] if rng.random() < 0.5]
    real = things[false:]
    # Twice the detector's side, then halved: as good as from 512 and four times as fast.
    large = draw_things(backdrop, int(rng.integers(VARIANTS)), style, (*shuffled, *real), 2 * INPUT)
    image = Image.fromarray(large)
    for thing in things[:false]:
        if thing not in shuffled:
            _draw_blob(image, thing, rng)
    if restyle is not None:
        image = Image.fromarray(restyle(np.array(image), rng))
    pixels = np.array(image.reduce(2))
    for thing in shuffled:
        side = thing.size * INPUT // SIZE
        left, top = ((place - thing.size // 2) * INPUT // SIZE for place in (thing.x, thing.y))
        shuffle_cells(pixels[top : top + side, left : left + side], CELL_AT_INPUT, rng)
    return Lesson(wear(pixels, CELL_AT_INPUT, rng), backdrop, real)


def _random_subject(rng: np.random.Generator) -> tuple[str, str]:
    return str(rng.choice(KINDS)), str(rng.choice(COLOUR_NAMES))


def _free_places(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """Up to `count` boxes (x, y, side) in px that overlap little and lie in the picture."""
    places: list[tuple[int, int, int]] = []
    for _ in range(8 * count):
        if len(places) == count:
            break
        side = int(rng.integers(SMALLEST, LARGEST if count == 1 else CROWDED))
        x, y = (int(value) for value in rng.integers(side // 2, SIZE - side // 2 + 1, 2))
        if all(max(abs(x - u), abs(y - v)) > 0.46 * (side + other) for u, v, other in places):
            places.append((x, y, side))
    return places


def _draw_blob(image: Image.Image, thing: Thing, rng: np.random.Generator) -> None:
    """A patch of the thing's colour without its shape: an ellipse, a rectangle or a ragged polygon."""
    scale = image.width / SIZE
    pen = ImageDraw.Draw(image)
    middle = np.array([thing.x, thing.y])
    reach = thing.size / 2 * rng.uniform(0.4, 1.0, 2)
    outline = None if rng.random() < 0.5 else INK
    fill = tuple(int(value) for value in np.clip(np.array(COLOURS[thing.colour]) * rng.uniform(0.7, 1), 0, 255))
    box = [float(value) for value in np.concatenate([middle - reach, middle + reach]) * scale]
    form = rng.random()
    if form < 0.3:
        pen.ellipse(box, fill, outline, 2)
    elif form < 0.45:
        pen.rectangle(box, fill, outline, 2)
    else:
        angles = np.linspace(0, 2 * np.pi, int(rng.integers(6, 14)), endpoint=False)
        radii = rng.uniform(0.45, 1, angles.size)[:, None] * reach
        corners = (middle + radii * np.stack([np.cos(angles), np.sin(angles)], -1)) * scale
        pen.polygon([(float(x), float(y)) for x, y in corners], fill, outline, 2)


def shuffle_cells(box: np.ndarray, cell: int, rng: np.random.Generator) -> None:
    """Exchange square pieces of one to three token cells of `cell` px within the box (S, S, 3), in place."""
    piece = cell * int(rng.integers(1, 4))
    side = len(box) // piece
    reach = side * piece
    cells = box[:reach, :reach].reshape(side, piece, side, piece, 3).swapaxes(1, 2).reshape(side * side, -1)
    cells = rng.permutation(cells).reshape(side, side, piece, piece, 3)
    box[:reach, :reach] = cells.swapaxes(1, 2).reshape(reach, reach, 3)


def wear(pixels: np.ndarray, cell: int, rng: np.random.Generator) -> np.ndarray:
    """What a generator's decoder and errors in tokens of `cell` px do to a picture, mildly and at random."""
    if rng.random() < 0.4:
        pixels = _misplace_cells(pixels, cell, rng)
    faults: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (_blur, _shift_colours, _compress)
    for fault in faults:
        if rng.random() < 0.4:
            pixels = fault(pixels, rng)
    return pixels


def _misplace_cells(pixels: np.ndarray, cell: int, rng: np.random.Generator) -> np.ndarray:
    """Up to 3 % of the token cells become copies of what lies up to a cell beside them."""
    count = int(rng.integers(1, (len(pixels) // cell) ** 2 // 32))
    limit = len(pixels) - 2 * cell
    original = pixels.copy()
    places = rng.integers(cell, limit, (count, 2)) // cell * cell
    for (y, x), (down, across) in zip(places, rng.integers(-cell, cell + 1, (count, 2)), strict=True):
        pixels[y : y + cell, x : x + cell] = original[y + down : y + down + cell, x + across : x + across + cell]
    return pixels


def _blur(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Down and up again."""
    image = Image.fromarray(pixels)
    coarse = int(rng.integers(image.width // 2, image.width))
    return np.array(image.resize((coarse, coarse), Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR))


def _shift_colours(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, rng.uniform(0, 8), pixels.shape)
    return (pixels * rng.uniform(0.93, 1.07, 3) + rng.uniform(-8, 8, 3) + noise).clip(0, 255).astype(np.uint8)


def _compress(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(30, 85)))
    return np.array(Image.open(file))


def _loss(detector: Detector, lessons: list[Lesson]) -> Tensor:
    """Binary cross-entropy of centres, cross-entropy of kind and colour where centres are, and of the backdrop."""
    pixels = torch.from_numpy(np.stack([lesson.pixels for lesson in lessons])).permute(0, 3, 1, 2).float() / 255
    backdrops = torch.tensor([BACKDROPS.index(lesson.backdrop) for lesson in lessons])
    heat, kinds, colours = (torch.from_numpy(np.stack(parts)) for parts in zip(*map(_targets, lessons), strict=True))
    centre, kind, colour, backdrop = detector(pixels.contiguous(memory_format=torch.channels_last))
    loss = 32 * functional.binary_cross_entropy_with_logits(centre[:, 0], heat)
    weight = heat * (heat > 0.4)
    for logits, target in ((kind, kinds), (colour, colours)):
        loss = loss + (functional.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    return loss + functional.cross_entropy(backdrop, backdrops)


def _targets(lesson: Lesson) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre heat in 0…1, kind and colour index of the nearest thing, each (16, 16)."""
    heat = np.zeros((GRID, GRID), np.float32)
    kinds, colours = np.zeros((2, GRID, GRID), np.int64)
    rows, columns = np.mgrid[:GRID, :GRID] + 0.5
    for thing in lesson.things:
        peak = np.exp(-((columns - thing.x / STRIDE) ** 2 + (rows - thing.y / STRIDE) ** 2) / (2 * PEAK_WIDTH**2))
        peak = (peak / peak.max()).astype(np.float32)
        nearest = peak > heat
        heat[nearest] = peak[nearest]
        kinds[nearest], colours[nearest] = KINDS.index(thing.kind), COLOUR_NAMES.index(thing.colour)
    return heat, kinds, colours

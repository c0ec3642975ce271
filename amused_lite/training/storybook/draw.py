"""Scenes to pixels: the place, and the drawings in their boxes with a shadow or ripples where they meet it."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from amused_lite.files.images import Pixels
from amused_lite.training.storybook.drawings.render import drawing
from amused_lite.training.storybook.layout import PlacedThing, things
from amused_lite.training.storybook.places import backdrop
from amused_lite.training.storybook.scene import CELL, StoryScene

_SHADOW, _SHADOW_SHARE = (24, 28, 48), 0.22
_RIPPLE, _RIPPLE_SHARE = (232, 244, 250), 0.7
_PALE_INK, _PAPER = (240, 236, 222), (250, 246, 236)
_NIGHT_FILL = (34, 42, 88)
_DISTINCT = 40  # difference of a channel, of 255, from which a pixel stands out
_RIM, _RIM_DARK, _RIM_PALE = 4, (84, 88, 108), (232, 232, 226)

Layered = tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]  # colour times alpha, and 255 - alpha


def draw(scene: StoryScene) -> Pixels:
    """The picture of `scene`: uint8 (canvas, canvas, 3), RGB. Needs the fetched drawings, see `drawings.drawing`."""
    return draw_things(scene, settled(scene))


def draw_things(scene: StoryScene, placed: Sequence[PlacedThing]) -> Pixels:
    """As `draw`, with these things in place of the scene's own, painted in order."""
    ink = scene.hand == "ink"
    page = backdrop(scene.place, scene.time, scene.weather, scene.variant, scene.page, ink).copy()
    for thing in placed:
        if thing.footing == "ground":
            _blend(page, _ellipse(thing.side, _SHADOW, _SHADOW_SHARE), thing.x, thing.y + thing.side - CELL // 2)
        _draw_figure(page, scene, thing)
        if thing.footing == "water":
            _blend(page, _ellipse(thing.side, _RIPPLE, _RIPPLE_SHARE), thing.x, thing.y + thing.side - CELL // 2)
    if scene.crop is None:
        return page
    top, left = scene.crop
    return np.ascontiguousarray(page[top : top + scene.canvas, left : left + scene.canvas])


def settled(scene: StoryScene) -> list[PlacedThing]:
    """The things of the scene with what stands on another lowered, on the token grid, until it touches."""
    placed: list[PlacedThing] = []
    for thing in things(scene):
        if thing.footing == "thing":
            below = placed[-1]
            touching = below.y + _top(scene.hand, below.kind, below.side, below.colour)
            thing = PlacedThing(thing.kind, thing.colour, thing.x, touching - thing.side, thing.side, "thing")
        placed.append(thing)
    return placed


@lru_cache(maxsize=4096)
def _top(hand: str, kind: str, side: int, colour: str | None) -> int:
    """How far down its box the upper edge of a drawing's middle third lies, px, on the token grid."""
    middle = drawing(hand, kind, side, colour)[:, side // 3 : side - side // 3, 3] > 127
    rows = np.where(middle.any(0), middle.argmax(0), side)
    return min(-(-int(np.median(rows)) // CELL) * CELL, side - CELL)


def _draw_figure(page: Pixels, scene: StoryScene, thing: PlacedThing) -> None:
    """Put a drawing on the page, with a rim where it would hardly show."""
    which = (scene.hand, thing.kind, thing.side, thing.colour)
    pale = scene.hand == "ink" and scene.time == "night" and thing.colour is None
    if scene.hand != "ink":
        ground = page[thing.y : thing.y + thing.side : 4, thing.x : thing.x + thing.side : 4].astype(np.int16)
        pixels, opaque = _coarse(*which)
        if (np.abs(pixels - ground).max(-1)[opaque] > _DISTINCT).mean() < 0.5:
            _blend(page, _rim(*which, bool(ground.mean() > 128)), thing.x - _RIM, thing.y - _RIM)
    _blend(page, _layered(*which, pale), thing.x, thing.y)


@lru_cache(maxsize=4096)
def _coarse(hand: str, kind: str, side: int, colour: str | None) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """Every fourth pixel of a drawing, and where it is opaque."""
    few = drawing(hand, kind, side, colour)[::4, ::4]
    return few[..., :3].astype(np.int16), few[..., 3] > 200


@lru_cache(maxsize=512)
def _rim(hand: str, kind: str, side: int, colour: str | None, dark: bool) -> Layered:
    """The outline of a drawing, wider by `_RIM` px on each side."""
    alpha = np.pad(drawing(hand, kind, side, colour)[..., 3], _RIM)
    wider = np.asarray(Image.fromarray(alpha).filter(ImageFilter.MaxFilter(2 * _RIM - 1)))[..., None].astype(np.uint16)
    return np.array(_RIM_DARK if dark else _RIM_PALE, np.uint16) * wider, 255 - wider


@lru_cache(maxsize=2048)
def _layered(hand: str, kind: str, side: int, colour: str | None, pale: bool) -> Layered:
    picture = drawing(hand, kind, side, colour)
    if hand == "ink":
        picture = _on_paper(picture, pale)
    return picture[..., :3] * np.uint16(255), 255 - picture[..., 3:].astype(np.uint16)


def _on_paper(picture: Pixels, pale: bool) -> Pixels:
    """An ink drawing whose inside hides what is behind it; in `pale` ink by night. RGBA, premultiplied, as it came."""
    alpha = picture[..., 3]
    outside = Image.fromarray(np.pad(alpha, 1)).copy()  # of its own: it is written to
    ImageDraw.floodfill(outside, (0, 0), 255, thresh=127)
    rest = np.where(np.asarray(outside)[1:-1, 1:-1] < 128, 255 - alpha, 0)[..., None] / 255
    ink = alpha[..., None] / 255 * np.array(_PALE_INK) if pale else picture[..., :3]
    filled = ink + rest * np.array(_NIGHT_FILL if pale else _PAPER)
    return np.dstack([filled, alpha[..., None] + 255 * rest]).astype(np.uint8)


@lru_cache(maxsize=32)
def _ellipse(side: int, rgb: tuple[int, int, int], share: float) -> Layered:
    """A flat spot as wide as most of a box of `side` px and one token high."""
    rows, columns = np.indices((CELL, side)) + 0.5
    distance = np.hypot((columns - side / 2) / (side * 0.42), (rows - CELL / 2) / (CELL * 0.46))
    alpha = (255 * share * np.clip((1 - distance) * CELL / 2, 0, 1))[..., None].astype(np.uint16)
    return np.array(rgb, np.uint16) * alpha, 255 - alpha


def _blend(page: Pixels, layered: Layered, x: int, y: int) -> None:
    """Composite a layer over the page, in place, with its upper left corner at `x`, `y` px."""
    colour, rest = layered
    rows, columns = (slice(max(0, -start), max(0, len(page) - start)) for start in (y, x))
    part = page[max(y, 0) : y + len(colour), max(x, 0) : x + len(colour[0])]
    part[...] = (colour[rows, columns] + part * rest[rows, columns] + 127) // 255

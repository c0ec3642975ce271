"""A thing as one hand draws it, trimmed, at the size and in the colour asked for.

Drawings are rendered once by resvg, which takes 10 to 25 ms, and then come from memory or from small files beside the
fetched sets, which takes half a millisecond.
"""

import io
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import resvg_py
from msgspec import Meta, Struct
from PIL import Image

from amused_lite.files.atomic import unfinished
from amused_lite.reading import convert, parse_object, read_text
from amused_lite.training.storybook.drawings.recolour import INK, MainPart, ink_colour, main_part, recoloured
from amused_lite.training.storybook.drawings.sets import FOLDER, HELD_OUT, SETS
from amused_lite.training.storybook.kinds import HANDS, HELD_OUT_HANDS, KINDS, Kind, available

__all__ = ["HANDS", "HELD_OUT_HANDS", "KINDS", "Kind", "available", "drawing", "use_folder"]

_EDITION = 1  # of the files of rendered drawings; another rendering, another number
_REMEMBERED = 2_048  # drawings kept in memory: 210 MB of them at 160 px
_LOOK = 256  # pixels a side at which a drawing's box and main part are found
_SIDES = (8, 1024)
_LARGEST = 64 * 2**20  # bytes of a set; the largest has 25 million

_Measure = Annotated[float, Meta(gt=0, le=10_000)]


class _Alias(Struct):
    parent: str


class _Icon(Struct):
    body: str  # SVG
    width: _Measure | None = None  # that of the set
    height: _Measure | None = None


class _Icons(Struct):
    """What is read of an Iconify set."""

    icons: dict[str, _Icon]
    aliases: dict[str, _Alias] = {}
    width: _Measure = 16
    height: _Measure = 16


_folder = FOLDER


def use_folder(folder: Path) -> None:
    """Take the drawings from this folder, where `fetch` has put them."""
    global _folder
    _folder = folder
    for remembered in (_remembered, _set, _box, _main_part):
        remembered.cache_clear()


def drawing(hand: str, kind: str, side: int, colour: str | None = None, mirrored: bool = False) -> np.ndarray:
    """One thing on nothing, as large as fits a square.

    It touches the bottom of the square, except what flies, which is in the middle of its height; across it is in the
    middle.

    Args:
        hand: one of `HANDS` or `HELD_OUT_HANDS`.
        kind: one of `KINDS`.
        side: pixels.
        colour: one of the kind's colours, in place of its own; `available` says which hands have it.
        mirrored: left and right exchanged.

    Returns:
        (side, side, 4) uint8, RGBA with colours multiplied by alpha (premultiplied), not to be written to: over a
        picture it gives `drawing[..., :3] + picture * (1 - alpha / 255)`.

    Raises:
        ValueError: the hand does not draw the thing, not in that colour, or the side is out of range.
        FileNotFoundError: the drawings are not fetched.
    """
    pixels = _remembered(hand, kind, side, colour)
    if mirrored:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        pixels.flags.writeable = False
    return pixels


@lru_cache(_REMEMBERED)
def _remembered(hand: str, kind: str, side: int, colour: str | None) -> np.ndarray:
    _check(hand, kind, side, colour)
    name = "-".join(filter(None, (kind.replace(" ", "_"), str(side), colour)))
    file = _folder / f"rendered-{_EDITION}" / hand / f"{name}.png"
    pixels = _stored(file)
    if pixels is None:
        pixels = _rendered(hand, kind, side, colour)
        _store(file, pixels)
    pixels.flags.writeable = False
    return pixels


def _check(hand: str, kind: str, side: int, colour: str | None) -> None:
    hands = available(kind, colour)
    if colour in (None, *KINDS[kind].colours):
        hands += tuple(other for other in HELD_OUT_HANDS if other in KINDS[kind].icons)
    if not hands:
        colours = ", ".join(KINDS[kind].colours) or "its own"
        raise ValueError(f"a {kind} cannot be {colour!r}; its colours are {colours}")
    if hand not in hands:
        thing = f"{colour} {kind}" if colour else kind
        raise ValueError(f"no {hand!r} drawing of a {thing}; the hands that have it are {', '.join(hands)}")
    if not _SIDES[0] <= side <= _SIDES[1]:
        raise ValueError(f"a drawing has {_SIDES[0]} to {_SIDES[1]} pixels a side, not {side}")


def _stored(file: Path) -> np.ndarray | None:
    try:
        with Image.open(file, formats=("PNG",)) as picture:
            return np.array(picture)
    except OSError:  # not rendered yet, or damaged
        return None


def _store(file: Path, pixels: np.ndarray) -> None:
    with unfinished(file) as partial:
        Image.fromarray(pixels, "RGBA").save(partial, compress_level=1)
        partial.replace(file)


def _rendered(hand: str, kind: str, side: int, colour: str | None) -> np.ndarray:
    left, top, width, height = _box(hand, kind)
    square = max(width, height)
    above = (square - height) / (2 if KINDS[kind].place == "flies" else 1)
    ink = ink_colour(colour) if hand == "ink" and colour else INK
    view = (left - (square - width) / 2, top - above, square)
    pixels = _resvg(hand, KINDS[kind].icons[hand], view, side, ink)
    if colour and hand != "ink":
        pixels = recoloured(pixels, _main_part(hand, kind), colour)
    alpha = pixels[..., 3:].astype(np.uint16)
    return np.concatenate([((pixels[..., :3] * alpha + 127) // 255), alpha], axis=-1).astype(np.uint8)


@cache
def _box(hand: str, kind: str) -> tuple[float, float, float, float]:
    """What a drawing covers of its canvas: left, top, width and height in canvas widths."""
    alpha = _resvg(hand, KINDS[kind].icons[hand], (0.0, 0.0, 1.0), _LOOK, INK)[..., 3]
    rows, columns = np.flatnonzero((alpha > 16).any(1)), np.flatnonzero((alpha > 16).any(0))
    if not len(rows):
        raise ValueError(f"the {hand!r} drawing of {kind!r} is empty")
    left, top = columns[0] / _LOOK, rows[0] / _LOOK
    return left, top, (columns[-1] + 1) / _LOOK - left, (rows[-1] + 1) / _LOOK - top


@cache
def _main_part(hand: str, kind: str) -> MainPart:
    return main_part(_resvg(hand, KINDS[kind].icons[hand], (0.0, 0.0, 1.0), _LOOK, INK))


def _resvg(hand: str, icon: str, view: tuple[float, float, float], side: int, ink: str) -> np.ndarray:
    """Render a square of an icon's canvas, of one unit a side: (side, side, 4) uint8, RGBA."""
    icons = _set(hand)
    name = icons.aliases[icon].parent if icon in icons.aliases else icon
    if name not in icons.icons:
        raise ValueError(f"the {hand!r} set has no drawing {icon!r}; fetch the set again")
    entry = icons.icons[name]
    width, height = entry.width or icons.width, entry.height or icons.height
    left, top, square = view
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{side}" '
        f'height="{side}" viewBox="{left} {top} {square} {square}" color="{ink}">'
        f'<svg width="1" height="1" viewBox="0 0 {width} {height}">{entry.body}</svg></svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    return np.array(Image.open(io.BytesIO(png), formats=("PNG",)).convert("RGBA"))


@cache
def _set(hand: str) -> _Icons:
    (file,) = (drawings.file(_folder) for drawings in SETS + HELD_OUT if drawings.hand == hand)
    if not file.is_file():
        command = f"amused-lite train {_folder} --stage fetch"
        if hand in HELD_OUT_HANDS:
            command = f"python -m amused_lite.training.storybook.fetch {_folder} --held-out"
        raise FileNotFoundError(f"the {hand!r} drawings are not in {_folder}; run: {command}")
    remedy = f"remove it and run: amused-lite train {_folder} --stage fetch"
    values = parse_object(read_text(file, remedy, _LARGEST), str(file), remedy)
    return convert(values, _Icons, str(file), remedy, closed=False)

"""Pixels around the token grid: which square of a picture the model sees, windows, and the way back. Knows no model.

Everything here is geometry on arrays and Pillow images; `editing/operations.py` gives it the model's own sizes.
"""

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import numpy as np
from PIL import Image

from amused_lite.files.images import MAX_PIXELS, MAX_SIDE

CONTEXT = 2  # a square around a mask is this many times as wide as the mask, where the picture has room
MAX_TOKENS = 2**16  # of a canvas that is drawn window by window, 64 times those of a 512 x 512 picture
_BAND = 256  # rows that are blended at a time, so that memory does not grow with the picture


class Box(NamedTuple):
    """A square of a picture, in its px. It may reach over the edges, which are then repeated outwards."""

    left: int
    top: int
    side: int

    def take(self, image: Image.Image, size: int) -> Image.Image:
        """The square's content as a picture of size x size."""
        inside = self.inside(image.size)
        part = image.crop(inside)
        if part.size != (self.side, self.side):
            left, top, right, bottom = inside
            over = ((top - self.top, self.top + self.side - bottom), (left - self.left, self.left + self.side - right))
            part = Image.fromarray(np.pad(np.asarray(part), (*over, (0, 0)), mode="edge"))
        return part if part.size == (size, size) else part.resize((size, size), Image.Resampling.LANCZOS)

    def inside(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """left, top, right, bottom of what lies in a picture of `size` (W, H)."""
        width, height = size
        return (
            max(self.left, 0),
            max(self.top, 0),
            min(self.left + self.side, width),
            min(self.top + self.side, height),
        )

    def cells(self, area: np.ndarray, grid: int) -> np.ndarray:
        """area bool (H, W) of the picture -> bool (grid * grid,): the cells of the square that touch it anywhere."""
        rows = self._gather(area, self.top, grid)  # (grid, W)
        return self._gather(rows.T, self.left, grid).T.ravel()

    def _gather(self, area: np.ndarray, start: int, grid: int) -> np.ndarray:
        """Whether any px along the first axis is True in each cell's stretch; px on an edge belong to both sides."""
        ends = [(start + i * self.side // grid, start - (-(i + 1) * self.side // grid)) for i in range(grid)]
        return np.stack([area[max(first, 0) : max(last, 0)].any(0) for first, last in ends])


def middle_box(size: tuple[int, int], whole: bool) -> Box:
    """The largest square in the middle of a picture of `size` (W, H), or with `whole` the smallest one around it."""
    width, height = size
    side = max(size) if whole else min(size)
    return Box((width - side) // 2, (height - side) // 2, side)


def box_around(area: np.ndarray, model_size: int, cell: int) -> Box:
    """The square in which to redraw the marked part of a picture, area bool (H, W).

    The whole picture if that is a square of the model's own size. Of a larger one a square around the marked part with
    as much again beside it, at least of the model's size so that nothing is magnified. It lies on the cells of
    `cell` px where it can, so that a drawn picture's own tokens can be used.
    """
    height, width = area.shape
    rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
    extent = int(max(np.ptp(rows), np.ptp(columns))) + 1
    side = max(extent, min(max(CONTEXT * extent, model_size), height, width))
    step = cell if side == model_size and extent + cell <= side else 1
    left = _centred(int(columns[0] + columns[-1] + 1) // 2, side, width, step)
    top = _centred(int(rows[0] + rows[-1] + 1) // 2, side, height, step)
    return Box(left, top, side)


def _centred(middle: int, side: int, length: int, step: int) -> int:
    """Where a stretch of `side` px begins that has `middle` in its middle and lies within the length, if it can."""
    if side >= length:
        return (length - side) // 2
    start = min(max(middle - side // 2, 0), length - side)
    return min(round(start / step) * step, (length - side) // step * step)


class Canvas(NamedTuple):
    """A picture with room beside it, in whole cells of the model's grid."""

    grid: tuple[int, int]  # rows, columns of all cells
    known: tuple[int, int, int, int]  # top, left, rows, columns of the picture's cells
    cell: int  # px
    seen: tuple[int, int]  # px, width and height of the picture as the model sees it
    size: tuple[int, int]  # px, width and height of the result
    frame: tuple[float, float, float, float]  # left, top, right, bottom of the result, in px as the model sees it

    def take(self, image: Image.Image) -> Image.Image:
        """The picture as the model sees it, cut or continued to whole cells."""
        height, width = (count * self.cell for count in self.known[2:])
        pixels = np.asarray(image.resize(self.seen, Image.Resampling.LANCZOS))[:height, :width]
        missing = (0, height - pixels.shape[0]), (0, width - pixels.shape[1])
        return Image.fromarray(np.pad(pixels, (*missing, (0, 0)), mode="edge"))

    def give(self, drawn: Image.Image) -> Image.Image:
        """The result's part of the drawn canvas, at the result's size."""
        return drawn.resize(self.size, Image.Resampling.LANCZOS, box=self.frame)


def widen(size: tuple[int, int], add: tuple[int, int, int, int], scale: float, cell: int) -> Canvas:
    """Add px at the left, top, right and bottom of a picture of `size` (W, H) that the model sees at `scale`.

    A cell that is only partly the picture's becomes new where something is added behind it.

    Raises:
        ValueError: nothing is added, or the result would be too large.
    """
    if min(add) < 0 or not any(add):
        raise ValueError(
            f"left, top, right and bottom must be 0 px or more and not all 0, got {', '.join(map(str, add))}"
        )
    result = size[0] + add[0] + add[2], size[1] + add[1] + add[3]
    axes = [_widen_axis(*numbers, scale, cell) for numbers in ((size[0], add[0], add[2]), (size[1], add[1], add[3]))]
    (columns, left, across, x), (rows, top, down, y) = axes
    if rows * columns > MAX_TOKENS or result[0] * result[1] > MAX_PIXELS or max(result) > MAX_SIDE:
        most = f"{MAX_SIDE} px a side, {MAX_PIXELS // 10**6} million px and {MAX_TOKENS} tokens"
        raise ValueError(f"{result[0]}x{result[1]} px ({rows * columns} tokens) are too many: at most {most}; add less")
    seen = round(size[0] * scale), round(size[1] * scale)
    return Canvas((rows, columns), (top, left, down, across), cell, seen, result, (x[0], y[0], x[1], y[1]))


def _widen_axis(
    length: int, before: int, after: int, scale: float, cell: int
) -> tuple[int, int, int, tuple[float, float]]:
    """Cells in all, cells before the picture, cells of it, and where the result begins and ends in px."""
    seen = round(length * scale)
    first = ceil(before * scale / cell)
    whole = seen // cell if after else ceil(seen / cell)
    end = first * cell + seen + after * scale
    return max(ceil(end / cell), first + whole), first, whole, (first * cell - before * scale, end)


def window_starts(length: int, window: int) -> list[int]:
    """Where windows begin that cover `length` cells, each half over the one before, the last one where it ends."""
    return [*range(0, length - window, max(1, window // 2)), length - window]


def decode_windows(decode: Callable[[np.ndarray], np.ndarray], tokens: np.ndarray, grid: int, cell: int) -> Image.Image:
    """tokens (h, w) -> a picture of w * cell by h * cell px, decoded in overlapping windows that blend into each other.

    decode: tokens (1, grid * grid) to pixels (1, 3, S, S). What lies near a window's edge, where it sees nothing
    beyond, counts little.
    """
    height, width = tokens.shape
    size = grid * cell
    summed = np.zeros((height * cell, width * cell, 3), np.float32)
    weights = np.zeros((height * cell, width * cell, 1), np.float32)
    for top in window_starts(height, grid):
        for left in window_starts(width, grid):
            window = tokens[top : top + grid, left : left + grid].reshape(1, -1)
            pixels = decode(np.ascontiguousarray(window, np.int32))[0].transpose(1, 2, 0)
            down = _ramp(size, top > 0, top + grid < height)
            across = _ramp(size, left > 0, left + grid < width)
            weight = (down[:, None] * across)[..., None]
            part = np.s_[top * cell : top * cell + size, left * cell : left * cell + size]
            summed[part] += weight * pixels
            weights[part] += weight
    summed /= weights
    return Image.fromarray(np.rint(summed.clip(0, 1) * 255).astype(np.uint8))


def encode_windows(encode: Callable[[np.ndarray], np.ndarray], image: Image.Image, grid: int, cell: int) -> np.ndarray:
    """A picture of whole cells -> tokens (h, w); each token from the window in whose middle it lies best.

    encode: pixels (1, 3, S, S) in 0...1 to tokens (1, grid * grid).
    """
    width, height = image.width // cell, image.height // cell
    size = grid * cell
    tokens = np.zeros((height, width), np.int32)
    best = np.zeros((height, width), np.float32)
    for top in window_starts(height, grid):
        for left in window_starts(width, grid):
            box = (left * cell, top * cell, left * cell + size, top * cell + size)
            found = encode(to_pixels(image.crop(box))).reshape(grid, grid)
            down, across = _ramp(grid, top > 0, top + grid < height), _ramp(grid, left > 0, left + grid < width)
            weight = down[:, None] * across
            part = np.s_[top : top + grid, left : left + grid]
            better = weight > best[part]
            tokens[part][better], best[part][better] = found[better], weight[better]
    return tokens


def to_pixels(image: Image.Image) -> np.ndarray:
    """An RGB picture -> (1, 3, H, W) float32 in 0...1."""
    return np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255)


def _ramp(length: int, before: bool, after: bool) -> np.ndarray:
    """Weights along one axis: 1 in the middle, falling to the ends beyond which the canvas goes on."""
    rising = (np.arange(length, dtype=np.float32) + 0.5) / (length / 2)
    ones = np.ones(length, np.float32)
    return np.minimum(np.minimum(rising if before else ones, rising[::-1] if after else ones), 1)


def paste_back(original: Image.Image, drawn: Image.Image, area: np.ndarray, feather: int) -> Image.Image:
    """The original with `drawn` where area (H, W) is True; every other px is the original's, bit for bit.

    A tokenizer gives colours back a little changed. What it changed beside the area is therefore taken off inside it
    as well, at the border fully and `feather` px further in no more, so that no edge is seen.
    """
    before, after = np.asarray(original), np.asarray(drawn)
    result = before.copy()
    columns = np.flatnonzero(area.any(0))
    across = slice(max(int(columns[0]) - feather, 0), int(columns[-1]) + 1 + feather)
    for top in range(0, len(area), _BAND):
        rows = slice(max(top - feather, 0), top + _BAND + feather)  # what the band's px depend on
        part = _match(before[rows, across], after[rows, across], area[rows, across], feather)
        part = part[top - rows.start :][:_BAND]
        inside = area[top : top + _BAND, across]
        result[top : top + _BAND, across][inside] = part[inside]
    return Image.fromarray(result)


def _match(before: np.ndarray, after: np.ndarray, area: np.ndarray, feather: int) -> np.ndarray:
    """`after` (H, W, 3) moved towards `before` near the border of the area, uint8."""
    if feather < 1 or area.all() or not area.any():
        return after
    kept = ~area[..., None]
    change = np.where(kept, before.astype(np.float32) - after, 0)
    near = _blur(kept.astype(np.float32), feather)
    shift = _blur(change, feather) / np.maximum(near, 1e-3) * np.minimum(2 * near, 1)
    return np.rint((after + shift).clip(0, 255)).astype(np.uint8)


def _blur(values: np.ndarray, reach: int) -> np.ndarray:
    """Means over (2 * reach + 1)-px squares of (H, W, C), edges repeated."""
    for axis in (0, 1):
        ends = [(0, 0)] * values.ndim
        ends[axis] = (reach + 1, reach)
        sums = np.pad(values, ends, mode="edge").cumsum(axis, dtype=np.float64)
        length = values.shape[axis]
        behind, ahead = (np.take(sums, range(start, start + length), axis) for start in (0, 2 * reach + 1))
        values = ((ahead - behind) / (2 * reach + 1)).astype(np.float32)
    return values

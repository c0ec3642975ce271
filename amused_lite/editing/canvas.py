"""From the tokens of an edit to its picture: what was drawn, laid into the earlier picture. Knows no model."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from amused_lite.editing.geometry import Box, Canvas, paste_back

PREVIEW_SIDE = 512  # px, the longer side of a preview at most
Paint = Callable[[Image.Image], Image.Image]
_GREY = 128  # where no token was sampled yet


class EditCanvas(ABC):
    """How an edit's decoded tokens become its picture."""

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the tokens; None for the model's own square."""
        return None

    @abstractmethod
    def compose(self, drawn: Image.Image) -> Image.Image:
        """The picture, from all tokens decoded."""

    @abstractmethod
    def painter(self) -> Paint:
        """What makes a rough, small picture out of one px for each token; it keeps no large picture in memory."""


@dataclass(frozen=True, eq=False)
class SquareCanvas(EditCanvas):
    """Of edits that may change everything: the part of the square that lies in the earlier picture."""

    box: Box
    size: tuple[int, int]  # px, width and height of the earlier picture

    def compose(self, drawn: Image.Image) -> Image.Image:
        left, top, right, bottom = self.box.inside(self.size)
        scale = drawn.width / self.box.side
        places = (left - self.box.left, top - self.box.top, right - self.box.left, bottom - self.box.top)
        return drawn.crop(tuple(round(place * scale) for place in places))  # type: ignore[arg-type]  # four of them

    def painter(self) -> Paint:
        return lambda cells: self.compose(cells.resize((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BICUBIC))


@dataclass(frozen=True, eq=False)
class PatchCanvas(EditCanvas):
    """Of inpainting: a square that is laid into the earlier picture, or its marked part alone."""

    original: Image.Image
    box: Box
    cells: np.ndarray  # bool (rows, columns), the tokens of the square that are drawn
    area: np.ndarray | None  # bool (H, W) of the original, the px that may change; None: the whole square
    feather: int  # px inside the border over which colours are matched

    def compose(self, drawn: Image.Image) -> Image.Image:
        laid = self.original.copy()
        side = self.box.side
        laid.paste(drawn.resize((side, side), Image.Resampling.LANCZOS), (self.box.left, self.box.top))
        return laid if self.area is None else paste_back(self.original, laid, self.area, self.feather)

    def painter(self) -> Paint:
        around = self.original.resize(fitted(self.original.size), Image.Resampling.BILINEAR)
        scale = around.width / self.original.width
        side = max(1, round(self.box.side * scale))
        corner = round(self.box.left * scale), round(self.box.top * scale)
        marked = Image.fromarray(self.cells.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BILINEAR)

        def paint(cells: Image.Image) -> Image.Image:
            shown = around.copy()
            shown.paste(cells.resize((side, side), Image.Resampling.BICUBIC), corner, marked)
            return shown

        return paint


@dataclass(frozen=True, eq=False)
class WideCanvas(EditCanvas):
    """Of outpainting: a larger picture, with the earlier one in it."""

    original: Image.Image
    canvas: Canvas
    corner: tuple[int, int]  # px, left and top of the original in the result
    paste: bool  # lay the original into what was drawn
    feather: int  # px beyond its edges over which colours are matched

    @property
    def grid(self) -> tuple[int, int]:
        return self.canvas.grid

    def compose(self, drawn: Image.Image) -> Image.Image:
        laid = self.canvas.give(drawn)
        if not self.paste:
            return laid
        before = Image.new("RGB", laid.size)
        before.paste(self.original, self.corner)
        left, top = self.corner
        area = np.ones(laid.size[::-1], bool)
        area[top : top + self.original.height, left : left + self.original.width] = False
        return paste_back(before, laid, area, self.feather)

    def painter(self) -> Paint:
        rows, columns = self.grid
        return enlarger((columns * PREVIEW_SIDE, rows * PREVIEW_SIDE))


def colour_cells(colours: np.ndarray, tokens: np.ndarray, grid: tuple[int, int]) -> Image.Image:
    """Tokens (N,), some of them masked, as a picture of one px each, in their codes' mean colours (K, 3) uint8."""
    codes = tokens.reshape(grid)
    known = codes < len(colours)
    shown = np.where(known[..., None], colours[np.where(known, codes, 0)], np.uint8(_GREY))
    return Image.fromarray(shown.astype(np.uint8))


def enlarger(size: tuple[int, int]) -> Paint:
    """The painter of a picture of `size` that is all drawn."""
    small = fitted(size)
    return lambda cells: cells.resize(small, Image.Resampling.BICUBIC)


def fitted(size: tuple[int, int]) -> tuple[int, int]:
    """A preview's size, for a picture of `size`."""
    scale = min(1.0, PREVIEW_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

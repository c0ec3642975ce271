"""Many pictures with their captions in one file."""

from collections.abc import Sequence
from os import PathLike

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SIDE = 256  # px of a picture on the sheet
GAP = 12
FONT_SIZE = 15
LINE = 19


def contact_sheet(
    pictures: Sequence[Image.Image | npt.NDArray[np.uint8]],
    captions: Sequence[str],
    path: str | PathLike[str],
    columns: int = 6,
) -> None:
    """Write `pictures` (images, or uint8 (S, S, 3), RGB) row by row to `path`, each with its caption wrapped below it.

    ValueError when there are no pictures, or not as many captions.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"got {len(pictures)} pictures and {len(captions)} captions, expected one caption for each")
    font = ImageFont.load_default(FONT_SIZE)
    wrapped = [_wrap(caption, font) for caption in captions]
    rows = [wrapped[start : start + columns] for start in range(0, len(wrapped), columns)]
    heights = [SIDE + GAP + LINE * max(len(lines) for lines in row) + GAP for row in rows]
    sheet = Image.new("RGB", (GAP + min(columns, len(pictures)) * (SIDE + GAP), GAP + sum(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (picture, lines) in enumerate(zip(pictures, wrapped, strict=True)):
        row, column = divmod(index, columns)
        x, y = GAP + column * (SIDE + GAP), GAP + sum(heights[:row])
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        sheet.paste(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        for number, line in enumerate(lines):
            pen.text((x, y + SIDE + 4 + number * LINE), line, (30, 30, 30), font)
    sheet.save(path)


def _wrap(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Lines no wider than a picture (a single longer word stays whole)."""
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > SIDE:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines

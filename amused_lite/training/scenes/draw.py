"""Scenes to pixels: antialiased vector drawing with Skia, more than 500 pictures a second on one core."""

import re
from functools import cache

import numpy as np
import skia

from amused_lite.files.images import Pixels
from amused_lite.training.scenes.backdrops import BACKDROP_LAYERS, RGB
from amused_lite.training.scenes.scene import COLOURS, SIZE, Scene, Thing
from amused_lite.training.scenes.shapes import SHAPES, Tone

Parts = tuple[tuple[Tone, skia.Path, float], ...]

INK: RGB = (28, 26, 34)
FIXED_TONES: dict[Tone, RGB] = {
    "wood": (128, 82, 48),
    "leaf": (58, 132, 60),
    "cream": (255, 244, 214),
    "ink": (46, 44, 54),
    "paper": (255, 255, 255),
}
CONTOUR = 1.7  # half the width of the contour in px at any size, so that small things keep theirs
CARTOON_CONTOUR = 5.0
PAPER_BORDER = 9.0
PAPER_SHADOW = (8.0, 10.0)


def draw(scene: Scene, size: int = SIZE) -> Pixels:
    """The picture of `scene`: uint8 (size, size, 3), RGB."""
    return draw_things(scene.backdrop, scene.variant, scene.style, scene.things, size)


def draw_things(backdrop: str, variant: int, style: str, things: tuple[Thing, ...], size: int = SIZE) -> Pixels:
    """Like `draw`, with things of any place and size, painted in order: uint8 (size, size, 3), RGB."""
    pixels = np.empty((size, size, 4), np.uint8)
    # The surface draws into `pixels` itself.
    surface = skia.Surface(pixels, skia.kRGBA_8888_ColorType)
    with surface as canvas:
        canvas.scale(size / SIZE, size / SIZE)
        _draw_backdrop(canvas, backdrop, variant, style)
        for thing in things:
            _draw_thing(canvas, thing, style)
    picture = np.empty((size, size, 3), np.uint8)
    for channel in range(3):  # four times faster than copying pixels[..., :3]
        picture[..., channel] = pixels[..., channel]
    return picture


def shades(colour: str) -> dict[Tone, RGB]:
    """The RGB of every tone for a thing of the named colour."""
    main = COLOURS[colour]
    if colour == "white":  # shades of plain grey would read as grey: keep them pale, and the contour clear
        return {**FIXED_TONES, "main": main, "light": (228, 233, 242), "dark": (206, 212, 224), "deep": (120, 128, 146)}
    return {
        **FIXED_TONES,
        "main": main,
        "light": _blend(main, (255, 255, 255), 0.42),
        "dark": _blend(main, (0, 0, 0), 0.28),
        "deep": _blend(main, (0, 0, 0), 0.52),
    }


def parse_path(text: str) -> skia.Path:
    """A path in the notation of `shapes.py`; raises ValueError at an unknown command."""
    path = skia.Path()
    for command, rest in re.findall(r"([A-Z])([^A-Z]*)", text):
        numbers = [float(number) for number in re.split(r"[ ,]+", rest.strip()) if number]
        match command:
            case "M":
                path.moveTo(*numbers)
            case "L":
                path.lineTo(*numbers)
            case "Q":
                path.quadTo(*numbers)
            case "C":
                path.cubicTo(*numbers)
            case "Z":
                path.close()
            case "O":
                x, y, across, down = numbers
                path.addOval(skia.Rect.MakeLTRB(x - across, y - down, x + across, y + down))
            case "R":
                path.addRect(skia.Rect.MakeXYWH(*numbers))
            case _:
                raise ValueError(f"path command {command!r} in {text!r}: use one of M L Q C Z O R")
    return path


def _blend(colour: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


@cache
def _paint(rgb: RGB, line: float = 0.0, alpha: int = 255, filled: bool = False) -> skia.Paint:
    """A fill, a line of the given width, or both together (`filled`)."""
    style = skia.Paint.kFill_Style if line == 0 else skia.Paint.kStroke_Style
    return skia.Paint(
        AntiAlias=True,
        Color=skia.Color(*rgb, alpha),
        Style=skia.Paint.kStrokeAndFill_Style if filled else style,
        StrokeWidth=line,
        StrokeJoin=skia.Paint.kRound_Join,
        StrokeCap=skia.Paint.kRound_Cap,
    )


@cache
def _parts(kind: str) -> Parts:
    return tuple((part.tone, parse_path(part.path), part.line) for part in SHAPES[kind])


@cache
def _layers(backdrop: str, variant: int) -> tuple[tuple[RGB, skia.Path, bool], ...]:
    return tuple((layer.rgb, parse_path(layer.path), layer.outlined) for layer in BACKDROP_LAYERS[backdrop][1][variant])


def _draw_backdrop(canvas: skia.Canvas, backdrop: str, variant: int, style: str) -> None:
    canvas.clear(skia.Color(*BACKDROP_LAYERS[backdrop][0]))
    for rgb, path, outlined in _layers(backdrop, variant):
        if style == "cartoon" and outlined:
            canvas.drawPath(path, _paint(INK, CARTOON_CONTOUR * 2))
        canvas.drawPath(path, _paint(rgb))


def _draw_thing(canvas: skia.Canvas, thing: Thing, style: str) -> None:
    scale = thing.size / 100
    tones, parts = shades(thing.colour), _parts(thing.kind)
    canvas.save()
    canvas.translate(thing.x - thing.size / 2, thing.y - thing.size / 2)
    canvas.scale(scale, scale)
    if style == "paper":
        dx, dy = PAPER_SHADOW
        canvas.translate(dx / scale, dy / scale)
        # One layer, so that overlapping parts do not darken the shadow twice.
        canvas.saveLayerAlpha(skia.Rect.MakeLTRB(-20, -20, 120, 120), 90)
        _draw_silhouette(canvas, parts, (0, 0, 0), PAPER_BORDER / scale)
        canvas.restore()
        canvas.translate(-dx / scale, -dy / scale)
        _draw_silhouette(canvas, parts, (255, 255, 255), PAPER_BORDER / scale)
    contour, rim = (INK, CARTOON_CONTOUR / scale) if style == "cartoon" else (tones["deep"], CONTOUR / scale)
    for tone, path, line in parts:
        # The contour lies under its own fill, so that only its outer half shows and unions have no inner lines.
        canvas.drawPath(path, _paint(contour, line + 2 * rim))
        canvas.drawPath(path, _paint(tones[tone], line))
    canvas.restore()


def _draw_silhouette(canvas: skia.Canvas, parts: Parts, rgb: RGB, rim: float) -> None:
    for _, path, line in parts:
        canvas.drawPath(path, _paint(rgb, line + 2 * rim, filled=line == 0))

"""Pictures that are not scenes: what the VQ-GAN sees besides, so that it can carry pictures the scenes never showed.

Patterns, textures, shapes of any colour, strokes, and scenes recoloured, filtered or textured.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import skia
from PIL import Image, ImageFilter

from amused_lite.files.images import Pixels
from amused_lite.training.scenes.draw import draw
from amused_lite.training.scenes.sampling import random_scene
from amused_lite.training.scenes.scene import SIZE

Look = Callable[[np.random.Generator, int], Pixels]
Colour = tuple[int, int, int]


def random_look(seed: int, index: int, size: int = SIZE) -> Pixels:
    """Picture number `index` of the stream `seed`, of a random look: uint8 (size, size, 3), RGB."""
    rng = np.random.default_rng((seed, index))
    return LOOKS[rng.integers(len(LOOKS))](rng, size)


def _colour(rng: np.random.Generator) -> Colour:
    """Any colour; half of them pulled towards black, white or grey, as most colours in pictures are."""
    colour = rng.integers(0, 256, 3).astype(float)
    if rng.random() < 0.5:
        colour += (rng.integers(0, 256) - colour) * rng.uniform(0.3, 0.95)
    red, green, blue = (int(value) for value in colour)
    return red, green, blue


def _paint(rng: np.random.Generator, line: float = 0.0, alpha: int = 255) -> skia.Paint:
    style = skia.Paint.kStroke_Style if line else skia.Paint.kFill_Style
    cap, join = skia.Paint.kRound_Cap, skia.Paint.kRound_Join
    color = skia.Color(*_colour(rng), alpha)
    return skia.Paint(AntiAlias=True, Color=color, Style=style, StrokeWidth=line, StrokeCap=cap, StrokeJoin=join)


def _canvas_picture(rng: np.random.Generator, size: int, scribble: Callable[[skia.Canvas], None]) -> Pixels:
    """A picture made by `scribble` on a canvas of 512 x 512 units with a random ground."""
    pixels = np.empty((size, size, 4), np.uint8)
    with skia.Surface(pixels, skia.kRGBA_8888_ColorType) as canvas:
        canvas.scale(size / SIZE, size / SIZE)
        canvas.clear(skia.Color(*_colour(rng)))
        scribble(canvas)
    return np.ascontiguousarray(pixels[..., :3])


def _mix(share: np.ndarray, first: Colour, second: Colour) -> Pixels:
    """Two colours blended by `share` (size, size), 0…1."""
    low, high = np.asarray(first, np.float32), np.asarray(second, np.float32)
    return (low + (high - low) * share[..., None].astype(np.float32)).astype(np.uint8)


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    return line[None, :], line[:, None]


def _wave(rng: np.random.Generator, size: int, most: float) -> np.ndarray:
    """Position along a random direction, in periods: (size, size)."""
    x, y = _axes(size)
    angle, periods = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(3), np.log(most)))
    return (x * np.cos(angle) + y * np.sin(angle)) * periods + rng.random()


def _gradient(rng: np.random.Generator, size: int) -> Pixels:
    x, y = _axes(size)
    if rng.random() < 0.5:
        share = np.hypot(x - rng.random(), y - rng.random()) * rng.uniform(0.6, 1.6)
    else:
        angle = rng.uniform(0, 2 * np.pi)
        share = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.5
    return _mix(np.clip(share, 0, 1) ** rng.uniform(0.6, 1.6), _colour(rng), _colour(rng))


def _stripes(rng: np.random.Generator, size: int) -> Pixels:
    hardness = rng.uniform(1, 30)
    share = np.clip(0.5 + hardness * np.sin(2 * np.pi * _wave(rng, size, 40)), 0, 1)
    return _mix(share, _colour(rng), _colour(rng))


def _checks(rng: np.random.Generator, size: int) -> Pixels:
    x, y = _axes(size)
    across, down = rng.uniform(3, 24, 2)
    squares = (np.floor(x * across + rng.random()) + np.floor(y * down + rng.random())) % 2
    return _mix(squares, _colour(rng), _colour(rng))


def _dots(rng: np.random.Generator, size: int) -> Pixels:
    first, second = _wave(rng, size, 30), _wave(rng, size, 30)
    distance = np.hypot(first % 1 - 0.5, second % 1 - 0.5)
    return _mix(np.clip((rng.uniform(0.15, 0.45) - distance) * 20 + 0.5, 0, 1), _colour(rng), _colour(rng))


def _noise(rng: np.random.Generator, size: int) -> Pixels:
    """Value noise of several octaves, from clouds to gravel, in two colours or in all."""
    channels = 1 if rng.random() < 0.7 else 3
    rough = rng.uniform(0.35, 0.9)
    total = np.zeros((size, size, channels), np.float32)
    for octave in range(rng.integers(1, 3), 8):
        coarse = rng.random((2**octave, 2**octave, channels), np.float32)
        layers = [Image.fromarray(coarse[..., c]).resize((size, size)) for c in range(channels)]
        total += np.stack([np.asarray(layer) for layer in layers], -1) * rough**octave
    total = (total - total.min()) / (np.ptp(total) + 1e-6)
    if channels == 3:
        return (total * 255).astype(np.uint8)
    return _mix(total[..., 0], _colour(rng), _colour(rng))


def _polygons(rng: np.random.Generator, size: int) -> Pixels:
    def scribble(canvas: skia.Canvas) -> None:
        for _ in range(rng.integers(3, 25)):
            centre, reach = rng.uniform(0, SIZE, 2), rng.uniform(20, 200)
            corners = centre + rng.uniform(-reach, reach, (rng.integers(3, 7), 2))
            path = skia.Path.Polygon([skia.Point(float(x), float(y)) for x, y in corners], True)
            line = float(rng.uniform(1, 12)) if rng.random() < 0.25 else 0.0
            canvas.drawPath(path, _paint(rng, line, alpha=int(rng.integers(120, 256))))

    return _canvas_picture(rng, size, scribble)


def _blobs(rng: np.random.Generator, size: int) -> Pixels:
    """Smooth closed shapes: random radii around a centre, joined by quadratic curves."""

    def scribble(canvas: skia.Canvas) -> None:
        for _ in range(rng.integers(2, 16)):
            corners = int(rng.integers(4, 10))
            angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
            reach = rng.uniform(20, 160) * rng.uniform(0.5, 1.2, corners)
            x = rng.uniform(0, SIZE) + reach * np.cos(angles)
            y = rng.uniform(0, SIZE) + reach * np.sin(angles)
            next_x, next_y = (x + np.roll(x, -1)) / 2, (y + np.roll(y, -1)) / 2
            path = skia.Path()
            path.moveTo(float(next_x[-1]), float(next_y[-1]))
            for corner in range(corners):
                path.quadTo(float(x[corner]), float(y[corner]), float(next_x[corner]), float(next_y[corner]))
            canvas.drawPath(path, _paint(rng))
            if rng.random() < 0.5:
                canvas.drawPath(path, _paint(rng, float(rng.uniform(1, 8))))

    return _canvas_picture(rng, size, scribble)


def _curves(rng: np.random.Generator, size: int) -> Pixels:
    def scribble(canvas: skia.Canvas) -> None:
        for _ in range(rng.integers(4, 40)):
            path = skia.Path()
            numbers = [float(number) for number in rng.uniform(-40, SIZE + 40, 8)]
            path.moveTo(*numbers[:2])
            path.cubicTo(*numbers[2:])
            canvas.drawPath(path, _paint(rng, float(np.exp(rng.uniform(0, 3)))))

    return _canvas_picture(rng, size, scribble)


def _writing(rng: np.random.Generator, size: int) -> Pixels:
    """Lines of short strokes on a page, as small as print and as large as a headline."""

    def scribble(canvas: skia.Canvas) -> None:
        height = float(rng.uniform(8, 48))
        pen = _paint(rng, max(1.0, height * float(rng.uniform(0.06, 0.16))))
        for baseline in np.arange(height * 1.5, SIZE, height * 1.7):
            x = height
            while x < SIZE - height:
                if rng.random() < 0.18:
                    x += height * 0.6
                    continue
                path = skia.Path()
                path.moveTo(x, float(baseline - rng.random() * height))
                for _ in range(rng.integers(1, 4)):
                    ends = rng.uniform(0, 1, 4) * height
                    bend, end = (x + float(ends[0] * 0.6), float(baseline - ends[1])), float(baseline - ends[3])
                    path.quadTo(*bend, x + float(ends[2] * 0.6), end)
                canvas.drawPath(path, pen)
                x += height * 0.75

    return _canvas_picture(rng, size, scribble)


def _any_scene(rng: np.random.Generator, size: int) -> Pixels:
    return draw(random_scene(int(rng.integers(2**31)), 0), size)


def _recoloured(rng: np.random.Generator, size: int) -> Pixels:
    """A scene with its colours turned: any mixing of the channels, stretched back to the full range."""
    mixed = _any_scene(rng, size) @ rng.normal(0, 1, (3, 3)).astype(np.float32)
    low, high = mixed.min((0, 1)), mixed.max((0, 1))
    return ((mixed - low) / (high - low + 1e-6) * 255).astype(np.uint8)


def _filtered(rng: np.random.Generator, size: int) -> Pixels:
    """A scene blurred, edge-drawn, embossed, posterised, pixelated or compressed."""
    image = Image.fromarray(_any_scene(rng, size))
    match int(rng.integers(6)):
        case 0:
            image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 6)) * size / SIZE))
        case 1:
            image = image.filter(ImageFilter.CONTOUR)
        case 2:
            image = image.filter(ImageFilter.EMBOSS)
        case 3:
            image = image.filter(ImageFilter.MedianFilter(5)).quantize(int(rng.integers(4, 12))).convert("RGB")
        case 4:
            coarse = int(rng.integers(32, 128))
            image = image.resize((coarse, coarse)).resize((size, size), Image.Resampling.NEAREST)
        case _:
            file = BytesIO()
            image.save(file, "JPEG", quality=int(rng.integers(8, 40)))
            image = Image.open(file).convert("RGB")
    return np.array(image)


def _textured(rng: np.random.Generator, size: int) -> Pixels:
    """A scene under the light and shade of another look."""
    scene = _any_scene(rng, size).astype(np.float32)
    pattern = (_noise, _stripes, _gradient, _dots)[rng.integers(4)](rng, size).astype(np.float32)
    share = rng.uniform(0.1, 0.5)
    return (scene * (1 - share) + pattern * share).astype(np.uint8)


def _turned(rng: np.random.Generator, size: int) -> Pixels:
    """A part of a scene, larger and rotated: edges of every direction at other scales."""
    scene = Image.fromarray(_any_scene(rng, SIZE)).rotate(float(rng.uniform(0, 360)), Image.Resampling.BICUBIC)
    side = int(rng.integers(120, 300))
    left, top = (int(value) for value in rng.integers(76, SIZE - 76 - side + 1, 2))
    return np.array(scene.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side)))


LOOKS: tuple[Look, ...] = (
    _gradient,
    _stripes,
    _checks,
    _dots,
    _noise,
    _polygons,
    _blobs,
    _curves,
    _writing,
    _recoloured,
    _filtered,
    _textured,
    _turned,
)

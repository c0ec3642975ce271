"""Looks to be learned from a few pictures: the U-ViT has seen none of them, and the tiny codebook can carry all.

A halftone's dots, for one, are finer than a token and come back from the VQ-GAN as plain paper; these are coarser.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from amused_lite.files.images import Pixels
from amused_lite.training.scenes.draw import draw
from amused_lite.training.scenes.scene import SIZE, Scene
from amused_lite.training.scenes.unseen_looks import UNSEEN_LOOKS, blend, edges, grey, rows_columns

Shade = tuple[int, int, int]


def style_look(name: str, scene: Scene, size: int = SIZE) -> Pixels:
    """`scene` in one of the looks named in `STYLE_LOOKS`: uint8 (size, size, 3), RGB; ValueError for another name."""
    if name not in STYLE_LOOKS:
        raise ValueError(f"no look is called {name!r}: use one of {', '.join(STYLE_LOOKS)}")
    return STYLE_LOOKS[name](draw(scene, size))


def _toned(share: np.ndarray, shades: tuple[Shade, ...]) -> Pixels:
    """Brightness 0…1 (H, W) to a ramp of shades."""
    stops, table = np.linspace(0, 1, len(shades)), np.array(shades, np.float32)
    return np.stack([np.interp(share, stops, table[:, channel]) for channel in range(3)], -1).astype(np.uint8)


def _filtered(plane: np.ndarray, image_filter: ImageFilter.Filter) -> np.ndarray:
    """A filter of Pillow's on values of 0…1."""
    image = Image.fromarray((plane * 255).astype(np.uint8))
    return np.asarray(image.filter(image_filter), np.float32) / 255


def _neon(picture: Pixels) -> Pixels:
    """Glowing outlines in the picture's own bright colours on a night ground."""
    lines = _filtered(edges(picture), ImageFilter.MaxFilter(5))
    glow = _filtered(lines, ImageFilter.GaussianBlur(len(picture) / 51))
    bright = picture / (picture.max(-1, keepdims=True) + np.float32(1))
    bright = np.stack([_filtered(channel, ImageFilter.MaxFilter(7)) for channel in np.moveaxis(bright, -1, 0)], -1)
    light = (0.6 * glow + lines)[..., None] * 255 * bright
    return (np.array((14, 8, 34)) + 0.1 * picture + light).clip(0, 255).astype(np.uint8)


def _sepia(picture: Pixels) -> Pixels:
    """An old brown photograph, darker towards its corners."""
    rows, columns = rows_columns(len(picture))
    middle = len(picture) / 2
    fading = 1 - 0.225 * (((rows - middle) / middle) ** 2 + ((columns - middle) / middle) ** 2)
    return _toned(grey(picture) * fading, ((40, 22, 10), (120, 78, 40), (205, 165, 110), (245, 228, 190)))


def _infrared(picture: Pixels) -> Pixels:
    """What a heat camera shows: dark things glow purple before a hot yellow ground."""
    shades = ((20, 10, 70), (120, 20, 110), (235, 70, 30), (255, 190, 40), (255, 250, 200))
    return _toned(grey(picture), shades)


def _chalk(picture: Pixels) -> Pixels:
    """Pale broad lines on a blackboard."""
    lines = _filtered(edges(picture), ImageFilter.MaxFilter(7))
    ground = 0.25 * picture + 0.75 * np.array((36, 60, 50))
    return blend(lines, ground, 165 + 0.35 * picture)


def _negative(picture: Pixels) -> Pixels:
    """A colour negative: everything's opposite, on the orange of the film."""
    return (np.array((255, 214, 160)) * (1 - 0.94 / 255 * picture)).astype(np.uint8)


def _popart(picture: Pixels) -> Pixels:
    """Dark broad outlines around flat colours that are none of the things' own: red, green and blue change places."""
    lines = _filtered(edges(picture), ImageFilter.MaxFilter(7))
    return blend(lines, np.roll(picture, 1, -1), (20, 10, 40))


def _aerochrome(picture: Pixels) -> Pixels:
    """Colour film that sees infrared: what is green turns pink or crimson, red turns green, blue keeps the half."""
    red, green, blue = np.moveaxis(picture / 255, -1, 0)
    film = np.stack([(1.6 * green - 0.6 * blue).clip(0, 1), 0.9 * red, (green + blue) / 2], -1)
    return (film * 255).astype(np.uint8)


STYLE_LOOKS: dict[str, Callable[[Pixels], Pixels]] = {
    "blueprint": UNSEEN_LOOKS["blueprint"],
    "neon": _neon,
    "sepia": _sepia,
    "infrared": _infrared,
    "chalk": _chalk,
    "negative": _negative,
    "popart": _popart,
    "aerochrome": _aerochrome,
}
# Looks that decide all colours, so that a picture in them cannot show the colour its prompt asks for.
COLOURLESS = ("blueprint", "sepia", "infrared", "negative", "popart", "aerochrome")

"""Four looks no training picture has: they measure how the VQ-GAN carries what it never saw."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageFilter

from amused_lite.files.images import Pixels
from amused_lite.training.scenes.draw import draw
from amused_lite.training.scenes.scene import SIZE, Scene

_PANES = 140


def unseen_look(name: str, scene: Scene, size: int = SIZE) -> Pixels:
    """`scene` in one of the looks named in `UNSEEN_LOOKS`: uint8 (size, size, 3), RGB; ValueError for another name."""
    if name not in UNSEEN_LOOKS:
        raise ValueError(f"no look is called {name!r}: use one of {', '.join(UNSEEN_LOOKS)}")
    return UNSEEN_LOOKS[name](draw(scene, size))


def grey(picture: Pixels) -> np.ndarray:
    """Brightness: (size, size), 0…1."""
    return np.asarray(Image.fromarray(picture).convert("L"), np.float32) / 255


def edges(picture: Pixels) -> np.ndarray:
    """How much of an edge each pixel is: (size, size), 0…1."""
    smooth = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1)), np.float32)
    down, across = np.gradient(smooth, axis=(0, 1))
    return np.clip(np.hypot(down, across).max(-1) / 24, 0, 1)


def blend(share: np.ndarray, ground: object, figure: object) -> Pixels:
    """From `ground` to `figure` by `share` (size, size), 0…1."""
    low, high = np.asarray(ground, np.float32), np.asarray(figure, np.float32)
    return (low + (high - low) * share[..., None]).clip(0, 255).astype(np.uint8)


def rows_columns(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel, both (size, size)."""
    rows, columns = np.indices((size, size), np.float32)
    return rows, columns


def _blueprint(picture: Pixels) -> Pixels:
    """Pale lines on blue squared paper."""
    rows, columns = rows_columns(len(picture))
    step = len(picture) // 16
    squares = ((rows % step < 1) | (columns % step < 1)) * 0.22
    return blend(np.maximum(edges(picture), squares), (24, 66, 138), (226, 238, 255))


def _stained_glass(picture: Pixels) -> Pixels:
    """Panes of one colour each between dark leads; the panes are the Voronoi cells of fixed random points."""
    nearest, leads = _panes(len(picture))
    panes = nearest.ravel()
    sums = [np.bincount(panes, channel.ravel(), _PANES) for channel in np.moveaxis(picture, -1, 0)]
    glass = (np.array(sums) / np.bincount(panes, minlength=_PANES).clip(1)).T[nearest]
    return blend(np.maximum(leads, edges(picture)), glass, (24, 22, 26))


@cache
def _panes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of the pane at each pixel, and how much of a lead it is, 0…1."""
    rows, columns = rows_columns(size)
    points = np.random.default_rng(7).uniform(0, size, (_PANES, 2)).astype(np.float32)
    distances = np.hypot(rows[..., None] - points[:, 0], columns[..., None] - points[:, 1])
    first, second = np.moveaxis(np.partition(distances, 1, axis=-1)[..., :2], -1, 0)
    return distances.argmin(-1), np.clip(1.5 - (second - first) * 256 / size, 0, 1)


def _halftone(picture: Pixels) -> Pixels:
    """Dots of the picture's colour on paper, larger where it is darker, on a grid turned by 30 degrees."""
    rows, columns = rows_columns(len(picture))
    pitch = len(picture) / 56
    across = (columns * 0.866 + rows * 0.5) / pitch
    down = (rows * 0.866 - columns * 0.5) / pitch
    distance = np.hypot(across % 1 - 0.5, down % 1 - 0.5)
    radius = 0.68 * np.sqrt(1.05 - grey(picture))
    return blend(np.clip((radius - distance) * pitch / 1.5 + 0.5, 0, 1), (250, 246, 236), picture * np.float32(0.8))


def _pencil_hatching(picture: Pixels) -> Pixels:
    """Grey strokes in three directions, one more the darker the place, and drawn edges."""
    rows, columns = rows_columns(len(picture))
    pitch = len(picture) / 72
    dark = 1 - grey(picture)
    ink = np.zeros_like(dark)
    for threshold, (down, across) in ((0.12, (1, 1)), (0.4, (1, -1)), (0.65, (1, 0.1))):
        lines = 0.5 + 0.5 * np.sin(2 * np.pi * (rows * down + columns * across) / pitch / np.hypot(down, across))
        ink = np.maximum(ink, lines**2 * np.clip((dark - threshold) * 4, 0, 0.75))
    return blend(np.maximum(ink, 0.9 * edges(picture)), (246, 244, 238), (52, 52, 58))


UNSEEN_LOOKS: dict[str, Callable[[Pixels], Pixels]] = {
    "blueprint": _blueprint,
    "stained glass": _stained_glass,
    "halftone": _halftone,
    "pencil hatching": _pencil_hatching,
}

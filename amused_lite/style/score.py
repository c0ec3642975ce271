"""Style score: compares palette, texture and line of pictures, not what they show. NumPy only.

The published scores use an image encoder of CLIP's, which cannot be had offline, and a network trained here on drawn
looks would judge by its own training. Style is what statistics without place can see (Gatys et al. 2016; Portilla and
Simoncelli 2000), and shallow fixed filters suffice for it (Ustyuzhaninov et al. 2016). So: fixed statistics, no
weights, nothing shared with the generator. tests/style/test_style_score.py holds them to telling looks apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 256  # px; pictures are compared at this size
_LEVELS = 4  # of the pyramid: details of 1 to 8 px
_ANGLES = 6
_BINS = 4  # of each colour channel
_PALETTE = 0.4  # weight against the details: what a picture shows decides much of its colours
_FLOOR = 1e-3  # of a mean absolute response, 0...1: below it a picture counts as empty there

Picture = Image.Image | npt.NDArray[np.uint8]


def style_features(picture: Picture) -> npt.NDArray[np.float32]:
    """Statistics of a picture that forget places: its palette, and its oriented details in brightness and colour."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    rgb = np.asarray(small, np.float32) / 255
    groups = [_PALETTE * _palette(rgb), _details(rgb.mean(-1)), _details(rgb[..., 0] - rgb[..., 2])]
    return np.concatenate([group / np.sqrt(len(group)) for group in groups]).astype(np.float32)


def _palette(rgb: np.ndarray) -> np.ndarray:
    """Fourth roots of a colour histogram, each pixel shared between neighbouring bins: (64,).

    Roots, because a look's palette shows in which colours there are, and the scene decides how much of each.
    """
    place = np.clip(rgb * (_BINS - 1), 0, _BINS - 1.001)
    low = place.astype(int)
    share = place - low
    histogram = np.zeros(_BINS**3)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([share[..., i] if corner[i] else 1 - share[..., i] for i in range(3)], axis=0)
        index = sum((low[..., i] + corner[i]) * _BINS**i for i in range(3))
        histogram += np.bincount(np.ravel(index), weight.ravel(), _BINS**3)
    return 2 * _BINS * (histogram / histogram.sum()) ** 0.25


def _details(plane: np.ndarray) -> np.ndarray:
    """For each level and direction: how strong the derivative is on the whole, and how rare."""
    found = []
    for _ in range(_LEVELS):
        down, across = np.gradient(plane)
        for angle in np.arange(_ANGLES) * np.pi / _ANGLES:
            response = np.abs(down * np.sin(angle) + across * np.cos(angle))
            mean = response.mean() + _FLOOR
            found += [0.5 * np.log(mean / _FLOOR), np.log1p(np.sqrt((response**2).mean()) / mean)]
        plane = plane.reshape(len(plane) // 2, 2, -1, 2).mean((1, 3))
    return np.array(found)


@dataclass(frozen=True)
class StyleStatistics:
    """The mean of the style features of a set of pictures."""

    name: str
    centre: npt.NDArray[np.float32]

    @classmethod
    def of(cls, name: str, pictures: Sequence[Picture]) -> "StyleStatistics":
        """From one picture or more."""
        return cls(name, np.mean([style_features(picture) for picture in pictures], axis=0))

    def distance(self, picture: Picture) -> float:
        """0 for a picture that has exactly these statistics."""
        return float(np.linalg.norm(style_features(picture) - self.centre))


@dataclass(frozen=True)
class StyleScale:
    """Distances to a look on a scale of two known sets: plain pictures score 0, pictures of the look itself 1."""

    look: StyleStatistics
    plain: float  # mean distance of pictures without the look
    real: float  # mean distance of pictures of the look that made no part of its centre

    @classmethod
    def of(cls, look: StyleStatistics, plain: Sequence[Picture], real: Sequence[Picture]) -> "StyleScale":
        """`plain` should show what the judged pictures show; `real` should be others than the look was made from."""
        return cls(look, *(float(np.mean([look.distance(picture) for picture in some])) for some in (plain, real)))

    def score(self, picture: Picture) -> float:
        """0 as far from the look as plain pictures, 1 as near as its own; beyond both is possible."""
        return (self.plain - self.look.distance(picture)) / max(self.plain - self.real, 1e-6)


def nearest_style(picture: Picture, looks: Sequence[StyleStatistics]) -> str:
    """The name of the look whose centre is nearest."""
    features = style_features(picture)
    return min(looks, key=lambda look: float(np.linalg.norm(features - look.centre))).name

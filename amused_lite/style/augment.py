"""Augmentation for style training: a colour mapping, fitted by least squares, restyles the base's own pictures.

One picture shows one thing in few colours, and an adapter that sees nothing else forgets the others. A model whose
captions nearly fix the picture, as the bundled one's do, draws the plain counterpart of a style's picture by itself,
thing upon thing. From such pairs a colour is guessed for any pixel by least squares, from its own colour and whether an
edge is near; and so the model's plain pictures of other prompts become further pictures of the style.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from amused_lite.files.images import Pixels

_BLUR, _SHARP = 2.0, 0.7  # px: while fitting, and while painting
_EDGE = 10.0  # times the difference of neighbours, 0...1: everything sharper counts as a full edge
_NEAR = 5  # px: how broad an edge is made, since counterparts do not lie exactly upon each other
_GLOW = 8  # px: how far the light of an edge falls
_HUE = 7  # px: how far a colour counts as that of an edge beside it
_CALM = 1e-3  # of the mean square of the features, for one picture: what was never seen is not magnified
_ALIKE = 0.2  # in colours 0...1: what lies farther off than this belongs to things that do not lie upon each other
_ROUNDS = 4  # of weighing pixels by how far off they are
_EVERY, _MOST = 2, 2**20  # px: between those that are fitted, and how many of them at most, of all pictures
_TINT = 0.3  # of a feature's size: what colours do beyond brightness has to be worth it, for few were seen
_GREY = np.array([0.299, 0.587, 0.114])
_FEATURES = 23


@dataclass(frozen=True, eq=False)
class StyleAugmentation:
    """What the style adds to a plain pixel, as a linear function of what stands in `_features`.

    So what no pair has shown keeps its own brightness, or the opposite where the style is a negative, and stays apart
    from what is beside it; of its tint it keeps the share that the style's tints have in common with the plain ones.
    """

    coefficients: npt.NDArray[np.float64]  # (_FEATURES, 3)
    opposite: bool  # dark where the plain picture is bright
    tints: float  # -1...1

    @classmethod
    def fit(cls, plain: Sequence[Pixels], styled: Sequence[Pixels]) -> "StyleAugmentation":
        """From pictures uint8 (H, W, 3) and their counterparts, each pair of one size.

        A thing of the plain picture rarely lies just where its counterpart does. So pixels far from what the others say
        count for less, as in Cauchy's regression by repeated weighing.
        """
        every = max(_EVERY, math.ceil(math.sqrt(sum(picture[..., 0].size for picture in plain) / _MOST)))
        before, after = (np.concatenate([_thinned(one, every) for one in some]) / 255 for some in (plain, styled))
        opposite = _alike(_brightness(before), _brightness(after)) < 0
        tints = _alike(_tints(before), _tints(after))
        known = np.concatenate([_thinned(_features(picture, _BLUR), every) for picture in plain])
        wanted = after - _start(before, opposite, tints)
        calm = _CALM / len(plain) * np.square(known).sum() / _FEATURES * np.eye(_FEATURES)
        weights = np.ones(len(known))
        for _ in range(_ROUNDS + 1):
            coefficients = np.linalg.solve((known.T * weights) @ known + calm, (known.T * weights) @ wanted)
            weights = 1 / (1 + np.square(wanted - known @ coefficients).sum(1) / _ALIKE**2)
        return cls(coefficients, opposite, tints)

    def __call__(self, picture: Pixels) -> Pixels:
        """A plain picture, uint8 (H, W, 3), with the fitted mapping applied."""
        made = _start(picture / 255, self.opposite, self.tints) + _features(picture, _SHARP) @ self.coefficients
        return (made.clip(0, 1) * 255).astype(np.uint8)


def _features(picture: Pixels, blur: float) -> npt.NDArray[np.float64]:
    """Features of each pixel, (H, W, `_FEATURES`): brightness first, then edges and their glow, then tints.

    blur: px, of the colours: counterparts do not lie exactly upon each other, and what is painted should be sharp.
    """
    image = Image.fromarray(picture)
    colour, sharp = (_values(image.filter(ImageFilter.GaussianBlur(radius))) for radius in (blur, blur / 2))
    bright = colour @ _GREY
    tints = [colour[..., 0] - bright, colour[..., 2] - bright]
    edge = np.clip(np.hypot(*np.gradient(sharp, axis=(0, 1))).max(-1) * _EDGE, 0, 1)
    edge = _filtered(edge, ImageFilter.MaxFilter(_NEAR))
    glow = _filtered(edge, ImageFilter.GaussianBlur(_GLOW))
    pure = (colour / (colour.max(-1, keepdims=True) + 0.02)).clip(0, 1)
    hues = [_filtered(channel, ImageFilter.MaxFilter(_HUE)) for channel in np.moveaxis(pure, -1, 0)]
    reliable = [np.ones_like(bright), bright, 0.7 * bright**2, 0.7 * bright**3]
    reliable += [edge, 0.7 * edge * bright, 0.5 * edge**2, 0.7 * glow]
    unreliable = [*tints, *(tint * bright for tint in tints), *(tint * edge for tint in tints)]
    unreliable += [first * second for first, second in combinations_with_replacement(tints, 2)]
    unreliable += [light * hue for light in (edge, glow) for hue in hues]
    return np.stack([*reliable, *(_TINT * feature for feature in unreliable)], -1)


def _thinned(values: npt.NDArray[Any], every: int) -> npt.NDArray[Any]:
    """Some of the pixels, in a list: (H, W, C) to (n, C)."""
    return values[::every, ::every].reshape(-1, values.shape[-1])


def _start(colours: npt.NDArray[np.float64], opposite: bool, tints: float) -> npt.NDArray[np.float64]:
    """Colours 0...1, (..., 3), before anything is learned: their brightness or the opposite, a share of their tints."""
    bright = _brightness(colours)
    return (1 - bright if opposite else bright) + tints * _tints(colours)


def _brightness(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of colours (..., 3): (..., 1)."""
    return (colours @ _GREY)[..., None]


def _tints(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What colours (..., 3) are beside their brightness."""
    return colours - _brightness(colours)


def _alike(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """The correlation of two arrays (n, C), each channel about its own mean."""
    one, other = first - first.mean(0), second - second.mean(0)
    size = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / size) if size else 0.0


def _values(image: Image.Image) -> npt.NDArray[np.float64]:
    return np.asarray(image, np.float64) / 255


def _filtered(plane: npt.NDArray[np.float64], image_filter: ImageFilter.Filter) -> npt.NDArray[np.float64]:
    """A filter of Pillow's on values of 0...1."""
    return _values(Image.fromarray((plane * 255).astype(np.uint8)).filter(image_filter))

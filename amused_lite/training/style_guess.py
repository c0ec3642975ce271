"""A rough guess of a style from a few pictures, to learn it on more than those few. NumPy only; draws nothing.

One picture shows one thing in few colours, and an adapter that sees nothing else forgets the others. A model whose
captions nearly fix the picture, as the bundled one's do, draws the plain counterpart of a style's picture by itself,
thing upon thing. From such pairs a colour is guessed for any pixel by least squares, from its own colour and whether an
edge is near; and so the model's plain pictures of other prompts become further pictures of the style.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]

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
class StyleGuess:
    """What the style adds to a plain pixel, as a linear function of what stands in `_features`.

    So what no pair has shown keeps its own brightness, or the opposite where the style is a negative, and stays apart
    from what is beside it; of its tint it keeps the share that the style's tints have in common with the plain ones.
    """

    coefficients: npt.NDArray[np.float64]  # (_FEATURES, 3)
    opposite: bool  # dark where the plain picture is bright
    tints: float  # -1...1

    @classmethod
    def fit(cls, plain: Sequence[Pixels], styled: Sequence[Pixels]) -> "StyleGuess":
        """From pictures uint8 (H, W, 3) and their counterparts, each pair of one size.

        A thing of the plain picture rarely lies just where its counterpart does. So pixels far from what the others say
        count for less, as in Cauchy's regression by repeated weighing.
        """
        opposite = _alike([_brightness(picture) for picture in plain], [_brightness(picture) for picture in styled]) < 0
        tints = _alike([_tints(picture) for picture in plain], [_tints(picture) for picture in styled])
        pairs = list(zip(plain, styled, strict=True))
        every = max(_EVERY, math.ceil(math.sqrt(len(pairs) * plain[0].shape[0] * plain[0].shape[1] / _MOST)))
        known = np.concatenate([_thinned(_features(before, _BLUR), every) for before, _ in pairs])
        wanted = np.concatenate(
            [_thinned(after / 255 - _start(before, opposite, tints), every) for before, after in pairs]
        )
        calm = _CALM / len(pairs) * np.square(known).sum() / _FEATURES * np.eye(_FEATURES)
        weights = np.ones(len(known))
        for _ in range(_ROUNDS + 1):
            coefficients = np.linalg.solve((known.T * weights) @ known + calm, (known.T * weights) @ wanted)
            weights = 1 / (1 + np.square(wanted - known @ coefficients).sum(1) / _ALIKE**2)
        return cls(coefficients, opposite, tints)

    def __call__(self, picture: Pixels) -> Pixels:
        """A plain picture in the style, as far as it can be guessed."""
        made = _start(picture, self.opposite, self.tints) + _features(picture, _SHARP) @ self.coefficients
        return (made.clip(0, 1) * 255).astype(np.uint8)


def _features(picture: Pixels, blur: float) -> npt.NDArray[np.float64]:
    """What a guess may depend on, (H, W, `_FEATURES`): brightness first, then edges and their glow, then tints.

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
    sure = [np.ones_like(bright), bright, 0.7 * bright**2, 0.7 * bright**3]
    sure += [edge, 0.7 * edge * bright, 0.5 * edge**2, 0.7 * glow]
    unsure = [*tints, *(tint * bright for tint in tints), *(tint * edge for tint in tints)]
    unsure += [first * second for first, second in combinations_with_replacement(tints, 2)]
    unsure += [light * hue for light in (edge, glow) for hue in hues]
    return np.stack([*sure, *(_TINT * feature for feature in unsure)], -1)


def _thinned(values: npt.NDArray[np.float64], every: int) -> npt.NDArray[np.float64]:
    """Some of the pixels, in a list: (H, W, C) to (n, C)."""
    return values[::every, ::every].reshape(-1, values.shape[-1])


def _start(picture: Pixels, opposite: bool, tints: float) -> npt.NDArray[np.float64]:
    """Colours 0...1 before anything is learned of them: its brightness or the opposite, and a share of its tints."""
    bright = _brightness(picture)
    return (1 - bright if opposite else bright) + tints * _tints(picture)


def _brightness(picture: Pixels) -> npt.NDArray[np.float64]:
    """Of colours 0...1, (H, W, 1)."""
    return (picture / 255 @ _GREY)[..., None]


def _tints(picture: Pixels) -> npt.NDArray[np.float64]:
    """What colours 0...1 are beside their brightness, (H, W, 3)."""
    return picture / 255 - _brightness(picture)


def _alike(first: Sequence[npt.NDArray[np.float64]], second: Sequence[npt.NDArray[np.float64]]) -> float:
    """The correlation of two lists of arrays (H, W, C), each channel about its own mean."""
    one, other = (np.concatenate([_thinned(array, _EVERY) for array in arrays]) for arrays in (first, second))
    one, other = one - one.mean(0), other - other.mean(0)
    size = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / size) if size else 0.0


def _values(image: Image.Image) -> npt.NDArray[np.float64]:
    return np.asarray(image, np.float64) / 255


def _filtered(plane: npt.NDArray[np.float64], image_filter: ImageFilter.Filter) -> npt.NDArray[np.float64]:
    """A filter of Pillow's on values of 0...1."""
    return _values(Image.fromarray((plane * 255).astype(np.uint8)).filter(image_filter))

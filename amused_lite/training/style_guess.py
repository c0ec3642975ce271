"""A rough guess of a style from a few pictures, to learn it on more than those few. NumPy only; draws nothing.

One picture shows one thing in few colours, and an adapter that sees nothing else forgets the others. A model whose
captions nearly fix the picture, as the bundled one's do, draws the plain counterpart of a style's picture by itself,
thing upon thing. From such pairs a colour is guessed for any pixel by least squares, from its own colour and whether an
edge is near; and so the model's plain pictures of other prompts become further pictures of the style. Token by token,
they also say which code of the style takes the place of which plain one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]

_EDGE = 10.0  # times the difference of neighbours, 0...1: everything sharper counts as a full edge
_NEAR = 5  # px: how broad an edge is made, since counterparts do not lie exactly upon each other
_CALM = 1e-3  # of the mean square of the features: keeps the fit from magnifying what was never seen


@dataclass(frozen=True, eq=False)
class StyleGuess:
    """Colours 0...1 as a quadratic function of a plain pixel's colour and edge."""

    coefficients: npt.NDArray[np.float64]  # (15, 3)

    @classmethod
    def fit(cls, plain: Sequence[Pixels], styled: Sequence[Pixels]) -> "StyleGuess":
        """From pictures uint8 (H, W, 3) and their counterparts, each pair of one size."""
        square, mixed = np.zeros((15, 15)), np.zeros((15, 3))
        for before, after in zip(plain, styled, strict=True):
            known = _features(before).reshape(-1, 15)
            square += known.T @ known
            mixed += known.T @ (after.reshape(-1, 3) / 255)
        calm = _CALM * np.trace(square) / 15 * np.eye(15)
        return cls(np.linalg.solve(square + calm, mixed))

    def __call__(self, picture: Pixels) -> Pixels:
        """A plain picture in the style, as far as it can be guessed."""
        return ((_features(picture) @ self.coefficients).clip(0, 1) * 255).astype(np.uint8)


def recoding(plain: npt.NDArray[np.integer], styled: npt.NDArray[np.integer], count: int) -> npt.NDArray[np.int32]:
    """For each of `count` codes the plain code whose place it takes most often: (count,), see `adapters`.

    A code that the style does not have takes the place of the one that is drawn least, and so is drawn least.

    Args:
        plain: tokens of pictures.
        styled: tokens of the same pictures in the style, of the same shape.
    """
    pairs, often = np.unique(plain.astype(np.int64) * count + styled, return_counts=True)
    rarest = np.bincount(plain.ravel(), minlength=count).argmin()
    codes = np.full(count, rarest, np.int32)
    before, after = np.divmod(pairs[np.argsort(often, kind="stable")], count)
    codes[after] = before  # of several the last is kept, which is the most frequent
    return codes


def carried_over(
    plain: npt.NDArray[np.integer], styled: npt.NDArray[np.integer], count: int
) -> npt.NDArray[np.float32]:
    """How often each code of the style stands where a plain one stood: (count, count), rows sum to 1.

    A plain code that was never seen becomes any of the style's codes, as often as those are seen.
    """
    pairs = np.bincount(plain.ravel().astype(np.int64) * count + styled.ravel(), minlength=count * count)
    shares = pairs.reshape(count, count).astype(np.float32)
    shares[shares.sum(1) == 0] = shares.sum(0)
    return shares / shares.sum(1, keepdims=True)


def _features(picture: Pixels) -> npt.NDArray[np.float64]:
    """(H, W, 15): one, red, green, blue, edge, and all products of two of these four."""
    image = Image.fromarray(picture)
    colour = np.asarray(image.filter(ImageFilter.GaussianBlur(2)), np.float64) / 255
    sharp = np.asarray(image.filter(ImageFilter.GaussianBlur(1)), np.float64) / 255
    edge = np.clip(np.hypot(*np.gradient(sharp, axis=(0, 1))).max(-1) * _EDGE, 0, 1)
    broad = Image.fromarray((edge * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(_NEAR))
    values = [*np.moveaxis(colour, -1, 0), np.asarray(broad, np.float64) / 255]
    products = [first * second for first, second in combinations_with_replacement(values, 2)]
    return np.stack([np.ones_like(edge), *values, *products], -1)

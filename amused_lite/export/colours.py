"""The colours of codes, for previews: a linear map from code vectors to colour, fitted on a few decoded grids.

Decoding every code, in the middle of 3x3 of its kind, costs 72 pictures at the published size. Of the bundled model's
table the best linear map at all is 3.7 grey levels off on average, and the one fitted on two grids 4.9.
"""

from collections.abc import Callable, Sequence

import numpy as np

PATCH = 3  # tokens a side; a code alone among others takes on their colours
GRIDS = 2  # more bring nothing
_RIDGE = 1e-2  # share of the vectors' mean square, so that few patches suffice for many dimensions


def colour_grids(grid: int, codebook_size: int) -> list[np.ndarray]:
    """Tokens (1, N) int32 of the pictures to fit on: patches of random codes, the same ones every time."""
    draw, across = np.random.default_rng(0), -(-grid // PATCH)
    patches = draw.integers(0, codebook_size, (GRIDS, across, across), np.int32)
    tokens = patches.repeat(PATCH, 1).repeat(PATCH, 2)[:, :grid, :grid]
    return list(tokens.reshape(GRIDS, 1, -1))


def fit_colours(codebook: np.ndarray, grids: Sequence[np.ndarray], pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The colour of every code, (K, 3) uint8.

    Args:
        codebook: (K, Z), float.
        grids: of `colour_grids`.
        pictures: (1, 3, H, W) in 0...1, what they decode to.
    """
    vectors, colours = [], []
    for tokens, picture in zip(grids, pictures, strict=True):
        side = int(tokens.size**0.5)
        cell = picture.shape[-1] // side
        means = picture[0].reshape(3, side, cell, side, cell).mean((2, 4)).transpose(1, 2, 0)
        middles = slice(PATCH // 2, None, PATCH)
        vectors.append(codebook[tokens.reshape(side, side)[middles, middles].ravel()])
        colours.append(means[middles, middles].reshape(-1, 3))
    known = _with_one(np.concatenate(vectors))
    ridge = _RIDGE * len(known) * float(np.square(known[:, :-1]).mean()) * np.eye(known.shape[1])
    ridge[-1, -1] = 0
    weights = np.linalg.solve(known.T @ known + ridge, known.T @ np.concatenate(colours))
    return np.rint(255 * (_with_one(codebook) @ weights).clip(0, 1)).astype(np.uint8)


def colour_table(decode: Callable[[np.ndarray], np.ndarray], codebook: np.ndarray, grid: int) -> np.ndarray:
    """`fit_colours` on what `decode` makes of its grids, tokens (1, N) to pixels (1, 3, H, W)."""
    grids = colour_grids(grid, len(codebook))
    return fit_colours(codebook, grids, [decode(tokens) for tokens in grids])


def _with_one(vectors: np.ndarray) -> np.ndarray:
    return np.concatenate([vectors, np.ones((len(vectors), 1))], 1, dtype=np.float64)

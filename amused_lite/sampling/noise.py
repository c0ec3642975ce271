"""Standard Gumbel noise from a counter-based generator: the only randomness of sampling.

Every picture's every step has its own Philox stream (Salmon et al. 2011), keyed by seed, picture and step. So a picture
of a batch equals the same picture made alone, and the same seed means the same noise whichever runtime uses it.
"""

import numpy as np

from amused_lite.config import MAX_SEED

TOKEN_STREAM, ORDER_STREAM, MASK_STREAM = 0, 1, 2
_MAX_PICTURE, _MAX_STEP = 2**32 - 1, 2**31 - 1
_CHUNK = 2**18  # numbers that go through all passes together, while they are in the cache of one core


def gumbel(seed: int, image_index: int, step: int, stream: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard Gumbel noise, float32, between about -2.8 and 16.7 (so float16 holds it).

    The key is (seed, picture << 32 | step << 1 | stream & 1); stream 2 counts from 2**192 on, far from the others. Only
    `random_raw` is used, since NumPy keeps that stream for ever and not those of its distributions. The logarithms are
    the platform's own: another processor may differ in the last bit.

    Args:
        seed: 0 to 2**64 - 1.
        image_index: number of the picture within its seed, from 0.
        step: number of the unmask step, from 0.
        stream: `TOKEN_STREAM`, `ORDER_STREAM` or `MASK_STREAM`.
        shape: of the result.

    Raises:
        ValueError: a number does not fit its place in the key.
    """
    _check_key(seed, image_index, step)
    noise = np.empty(shape, np.float32)
    _fill(noise.reshape(-1), seed, image_index, step, stream)
    return noise


def _fill(noise: np.ndarray, seed: int, image_index: int, step: int, stream: int, first: int = 0) -> None:
    """Fill a flat array with the stream's numbers from `first` on, a multiple of 8: one count gives so many."""
    key = np.array([seed, image_index << 32 | step << 1 | stream & 1], np.uint64)
    generator = np.random.Philox(key=key, counter=((stream >> 1) << 192) + first // 8)
    for start in range(0, noise.size, _CHUNK):
        part = noise[start : start + _CHUNK]
        raw = generator.random_raw((part.size + 1) // 2)
        bits = raw.astype("<u8", copy=False).view("<u4")[: part.size]
        # 23 bits, not 24: with 24 the largest value rounds to 1.0 in float32 and its Gumbel is infinite.
        np.copyto(part, bits >> np.uint32(9), casting="same_kind")
        part += np.float32(0.5)
        part *= np.float32(2**-23)
        for _ in range(2):  # -log(-log(u))
            np.log(part, out=part)
            np.negative(part, out=part)


def _check_key(seed: int, image_index: int, step: int) -> None:
    for name, value, limit in (
        ("seed", seed, MAX_SEED),
        ("picture", image_index, _MAX_PICTURE),
        ("step", step, _MAX_STEP),
    ):
        if not 0 <= value <= limit:
            raise ValueError(f"{name} must be 0 to {limit}, got {value}")


def token_noise(
    seed: int, image_index: int, step: int, num_tokens: int, codebook_size: int, needed: np.ndarray | None = None
) -> np.ndarray:
    """(N, K): added to log-probabilities, the largest sum is one exact categorical draw (the Gumbel-max trick).

    needed: (N,) bool, the tokens whose noise is used; the rows of the others may stay 0.
    """
    if needed is None or needed.all() or codebook_size % 8:
        return gumbel(seed, image_index, step, TOKEN_STREAM, (num_tokens, codebook_size))
    _check_key(seed, image_index, step)
    noise = np.zeros((num_tokens, codebook_size), np.float32)
    edges = np.flatnonzero(np.diff(needed, prepend=False, append=False))
    for first, end in edges.reshape(-1, 2).tolist():  # runs of tokens that are needed
        _fill(noise[first:end].reshape(-1), seed, image_index, step, TOKEN_STREAM, first * codebook_size)
    return noise


def order_noise(seed: int, image_index: int, step: int, num_tokens: int) -> np.ndarray:
    """(N,): added to confidences, times the mask temperature."""
    return gumbel(seed, image_index, step, ORDER_STREAM, (num_tokens,))


def mask_noise(seed: int, image_index: int, step: int, num_tokens: int) -> np.ndarray:
    """(N,): an edit masks the tokens where it is largest, which is a fair draw of any number of them."""
    return gumbel(seed, image_index, step, MASK_STREAM, (num_tokens,))

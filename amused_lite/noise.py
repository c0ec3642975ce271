"""Randomness, all of it: standard Gumbel noise from a counter-based generator. Knows no tokens and no model.

Every picture's every step has its own Philox stream (Salmon et al. 2011), keyed by seed, picture and step. So a picture
of a batch equals the same picture made alone, and the same seed means the same noise whichever runtime uses it.
"""

import numpy as np

TOKEN_STREAM, ORDER_STREAM, MASK_STREAM = 0, 1, 2
MAX_SEED = 2**64 - 1
_MAX_PICTURE, _MAX_STEP = 2**32 - 1, 2**31 - 1


def gumbel(seed: int, picture: int, step: int, stream: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard Gumbel noise, float32, between about -2.8 and 16.7 (so float16 holds it).

    The key is (seed, picture << 32 | step << 1 | stream & 1); stream 2 counts from 2**192 on, far from the others. Only
    `random_raw` is used, since NumPy keeps that stream for ever and not those of its distributions. The logarithms are
    the platform's own: another processor may differ in the last bit.

    Args:
        seed: 0 to 2**64 - 1.
        picture: number of the picture within its seed, from 0.
        step: number of the unmask step, from 0.
        stream: `TOKEN_STREAM`, `ORDER_STREAM` or `MASK_STREAM`.
        shape: of the result.

    Raises:
        ValueError: a number does not fit its place in the key.
    """
    for name, value, limit in (("seed", seed, MAX_SEED), ("picture", picture, _MAX_PICTURE), ("step", step, _MAX_STEP)):
        if not 0 <= value <= limit:
            raise ValueError(f"{name} must be 0 to {limit}, got {value}")
    count = int(np.prod(shape))
    key = np.array([seed, picture << 32 | step << 1 | stream & 1], np.uint64)
    raw = np.random.Philox(key=key, counter=(stream >> 1) << 192).random_raw((count + 1) // 2)
    bits = raw.astype("<u8", copy=False).view("<u4")[:count]
    # 23 bits, not 24: with 24 the largest value rounds to 1.0 in float32 and its Gumbel is infinite.
    noise = (bits >> np.uint32(9)).astype(np.float32)
    noise += np.float32(0.5)
    noise *= np.float32(2**-23)
    for _ in range(2):  # -log(-log(u)), in place: at 512 pixels these are up to 33 MB a step
        np.log(noise, out=noise)
        np.negative(noise, out=noise)
    return noise.reshape(shape)


def token_noise(seed: int, picture: int, step: int, num_tokens: int, codebook_size: int) -> np.ndarray:
    """(N, K): added to log-probabilities, the largest sum is one exact categorical draw (the Gumbel-max trick)."""
    return gumbel(seed, picture, step, TOKEN_STREAM, (num_tokens, codebook_size))


def order_noise(seed: int, picture: int, step: int, num_tokens: int) -> np.ndarray:
    """(N,): added to confidences, times the mask temperature."""
    return gumbel(seed, picture, step, ORDER_STREAM, (num_tokens,))


def mask_noise(seed: int, picture: int, step: int, num_tokens: int) -> np.ndarray:
    """(N,): an edit masks the tokens where it is largest, which is a fair draw of any number of them."""
    return gumbel(seed, picture, step, MASK_STREAM, (num_tokens,))

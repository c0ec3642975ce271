"""Weights in 8 and 4 bits: rounding, packing and back, in NumPy. Knows no engine, no model and no files.

A weight is seen as rows, one per output, and numbers of a row share a scale: all of them, or blocks of neighbours.
Rounding is symmetric, so that zero stays zero: value = scale * integer, with integers -127...127 or -7...7. Scales are
float16, and integers are chosen for the scale as it is stored.

    stored dense     integers int8 in the weight's own shape, with a scale that broadcasts against them
    stored packed    bytes uint8 (rows, blocks, block * bits / 8), integers + 2**(bits - 1); in 4 bits two to a byte,
                     the earlier one in the lower half; and scales (rows, blocks)
"""

from collections.abc import Callable

import numpy as np

LARGEST = {8: 127, 4: 7}
SCALE = ".scale"  # behind a weight's name: the name of its scales
SMALLEST_BLOCK = 16  # ONNX Runtime's kernels know no smaller one
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)  # of the largest value: in 4 bits a finer grid may be worth a clipped value


def block_of(length: int, wanted: int) -> int:
    """The largest power of two that divides rows of this length, `wanted` at most; 0 where only small ones do."""
    block = wanted
    while block >= SMALLEST_BLOCK and length % block:
        block //= 2
    return block if block >= SMALLEST_BLOCK else 0


def quantize_rows(weight: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A weight in 8 bits: int8 in its shape, and float16 scales, 1 long in `axes`, over which they are shared."""
    weight = weight.astype(np.float32, copy=False)
    scale = _stored_scale(np.abs(weight).max(axes, keepdims=True) / LARGEST[8])
    return _integers(weight, scale, 8), scale


def dequantize_rows(integers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The float32 weight that `quantize_rows` left."""
    return integers.astype(np.float32) * scale.astype(np.float32)


def requantize_rows(weight: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`quantize_rows` for a changed weight, with scales shared over the same axes as these."""
    axes = tuple(axis for axis, length in enumerate(scale.shape) if length == 1)
    return quantize_rows(weight, axes)


def requantize(
    stored: np.ndarray, scale: np.ndarray, change: Callable[[np.ndarray], np.ndarray], bits: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """A quantized weight with other values: widened, changed, and rounded again with new scales, shared as these are.

    Args:
        stored: dense int8 in the weight's shape, or packed uint8 (rows, blocks, bytes).
        scale: of a dense weight, broadcasts against it; of a packed one (rows, blocks), or (rows, 1) for one a row.
        change: from the float32 weight, packed ones as a matrix (rows, length), to another of its shape.
        bits: of a packed weight.

    Returns:
        Both as they were given; the very same arrays where `change` returned its argument.
    """
    if stored.dtype != np.uint8:
        widened = dequantize_rows(stored, scale)
        changed = change(widened)
        return (stored, scale) if changed is widened else requantize_rows(changed, scale)
    integers, one_a_row = unpack(stored, bits).reshape(len(stored), -1), scale.shape[1] < stored.shape[1]
    blocks = integers.reshape(*scale.shape, -1)
    widened = dequantize_rows(integers, scale) if one_a_row else dequantize_blocks(blocks, scale)
    changed = change(widened)
    if changed is widened:
        return stored, scale
    block = widened.shape[1] // scale.shape[1]
    integers, new = requantize_rows(changed, scale) if one_a_row else quantize_blocks(changed, bits, block)
    return pack(integers, bits).reshape(stored.shape), new


def quantize_blocks(matrix: np.ndarray, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (rows, length) in 8 or 4 bits: integers int8 (rows, blocks, block), scales float16 (rows, blocks).

    In 4 bits each block takes the scale, of six, with the least squared error.
    """
    rows, length = matrix.shape
    blocks = matrix.astype(np.float32, copy=False).reshape(rows, length // block, block)
    peaks = np.abs(blocks).max(-1, keepdims=True) / LARGEST[bits]
    scale = _stored_scale(peaks)
    integers = _integers(blocks, scale, bits)
    if bits == 8:
        return integers, scale[..., 0]
    least = _error(blocks, integers, scale)
    for clip in _CLIPS[1:]:
        other = _stored_scale(clip * peaks)
        rounded = _integers(blocks, other, bits)
        error = _error(blocks, rounded, other)
        better = error < least
        scale, integers = np.where(better, other, scale), np.where(better, rounded, integers)
        least = np.minimum(error, least)
    return integers, scale[..., 0]


def dequantize_blocks(integers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The float32 matrix (rows, length) that `quantize_blocks` left."""
    return dequantize_rows(integers, scale[..., None]).reshape(len(integers), -1)


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """Integers (rows, blocks, block) to the bytes of the packed form."""
    shifted = (integers.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    return shifted if bits == 8 else shifted[..., 0::2] | (shifted[..., 1::2] << 4)


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `pack`."""
    if bits == 4:
        packed = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)
    return (packed.astype(np.int16) - 2 ** (bits - 1)).astype(np.int8)


def _stored_scale(scale: np.ndarray) -> np.ndarray:
    """As float16, and never zero, so that a row of zeros divides."""
    return np.maximum(scale.astype(np.float16), np.float16(6e-8))


def _integers(weight: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    largest = LARGEST[bits]
    return np.rint(weight / scale.astype(np.float32)).clip(-largest, largest).astype(np.int8)


def _error(blocks: np.ndarray, integers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.square(dequantize_rows(integers, scale) - blocks).sum(-1, keepdims=True)

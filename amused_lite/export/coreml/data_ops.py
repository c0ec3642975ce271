"""The other half of the Core ML interpreter: operations that move values about, or unpack compressed weights.

Moving rounds nothing, so these keep float16 as it comes. Parameters are named as in `arithmetic_ops`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from amused_lite.export.coreml.arithmetic_ops import axes_of


def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """A 0 in the shape keeps that axis."""
    return x.reshape([x.shape[axis] if length == 0 else length for axis, length in enumerate(shape.tolist())])


def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    """New axes of length 1, at their places in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without the named axes of length 1, or without any."""
    named = [axis for axis, length in enumerate(x.shape) if length == 1] if axes is None else axes_of(x, axes)
    return x.squeeze(named)


def slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """NumPy's slicing: a masked begin or end means from the start or to the end, a squeezed axis is one index."""
    rank = len(begin)
    no = [False] * rank
    masks = [no if mask is None else mask.tolist() for mask in (begin_mask, end_mask, squeeze_mask)]
    steps = [1] * rank if stride is None else stride.tolist()
    index = tuple(
        first if single else slice(None if from_start else first, None if to_end else last, step)
        for first, last, step, from_start, to_end, single in zip(
            begin.tolist(), end.tolist(), steps, *masks, strict=True
        )
    )
    return x[index]


def slice_by_size(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """A size of -1 takes what is left."""
    spans = zip(begin.tolist(), size.tolist(), strict=True)
    return x[tuple(slice(first, None if length == -1 else first + length) for first, length in spans)]


def split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Into equal parts, or parts of these lengths."""
    if split_sizes is not None:
        return torch.split(x, split_sizes.tolist(), int(axis))
    assert num_splits is not None  # one of the two is always there
    return torch.split(x, x.shape[int(axis)] // int(num_splits), int(axis))


def gather(
    x: Tensor,
    indices: Tensor,
    axis: Tensor | int = 0,
    batch_dims: Tensor | int = 0,
    validate_indices: Tensor | bool = False,
) -> Tensor:
    """x's slices along `axis`, in the shape of the indices."""
    if int(batch_dims):
        raise ValueError("gather with batch_dims is not known")
    place = int(axis) % x.dim()
    found = x.index_select(place, indices.reshape(-1).long())
    return found.reshape(*x.shape[:place], *indices.shape, *x.shape[place + 1 :])


def gather_along_axis(
    x: Tensor, indices: Tensor, axis: Tensor | int = 0, validate_indices: Tensor | bool = False
) -> Tensor:
    """One value per index, along `axis`."""
    return torch.take_along_dim(x, indices.long(), int(axis))


def pad(x: Tensor, pad: Tensor, mode: str = "constant", constant_val: Tensor | float = 0.0) -> Tensor:
    """(before, after) of the last axes, in order."""
    if mode != "constant":
        raise ValueError(f"pad of mode {mode!r}, only 'constant' is known")
    pairs = pad.reshape(-1, 2).flip(0)
    return F.pad(x, pairs.flatten().tolist(), value=float(constant_val))


def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: Tensor | float = 1, scale_factor_width: Tensor | float = 1
) -> Tensor:
    """x (B, C, H, W), each pixel repeated."""
    high, wide = float(scale_factor_height), float(scale_factor_width)
    if not (high.is_integer() and wide.is_integer()):
        raise ValueError(f"upsampling by {high} x {wide}, only whole factors are known")
    return x.repeat_interleave(int(high), 2).repeat_interleave(int(wide), 3)


def fill_like(ref_tensor: Tensor, value: Tensor) -> Tensor:
    """`value` in the shape of another array."""
    return value.expand(ref_tensor.shape)


def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> Tensor:
    """8-bit weights: scale * (q - zero), per slice of `axis` where scale has an axis."""
    shape = [1] * quantized_data.dim()
    shape[int(axis)] = -1
    zero, factor = (value.reshape(shape) if value.dim() else value for value in (zero_point, scale))
    return factor * (quantized_data.to(scale.dtype) - zero.to(scale.dtype))


def _spread(small: Tensor, shape: torch.Size) -> Tensor:
    """Repeat every entry over the block it stands for."""
    for axis, length in enumerate(shape):
        small = small.repeat_interleave(length // small.shape[axis], axis)
    return small


def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Weights of 4 or 8 bits: scale * (q - offset), one scale for each block of each axis."""
    shifted = data.to(scale.dtype)
    if offset is not None:
        shifted = shifted - _spread(offset.to(scale.dtype), data.shape)
    return _spread(scale, data.shape) * shifted


def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Tensor | None = None, vector_axis: Tensor | None = None
) -> Tensor:
    """Palettized weights, in the two forms that there are.

    iOS16: indices packed into bytes, their bits given by the palette's length, and the shape of the result.
    iOS18: indices (...), lut (groups of each axis, entries, 1).
    """
    if shape is not None:
        bits = (len(lut) - 1).bit_length()
        count = int(shape.prod())
        digits = (indices[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1  # the lowest bit comes first
        numbers = digits.flatten()[: count * bits].reshape(count, bits).long() @ (1 << torch.arange(bits))
        return lut[numbers].reshape(shape.tolist())
    if lut.shape[-1] != 1:
        raise ValueError("palettes of vectors are not known")
    groups, entries = lut.shape[:-2], lut.shape[-2]
    first = torch.arange(groups.numel()).reshape(groups) * entries  # where each block's palette begins
    return lut.flatten()[_spread(first, indices.shape) + indices.long()]


MOVES: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "cast": lambda x, dtype: x,  # the declared type of the result does it
    "concat": lambda values, axis, interleave=False: torch.cat(values, int(axis)),
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "constexpr_blockwise_shift_scale": constexpr_blockwise_shift_scale,
    "constexpr_lut_to_dense": constexpr_lut_to_dense,
    "expand_dims": expand_dims,
    "fill_like": fill_like,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "identity": lambda x: x,
    "pad": pad,
    "pixel_shuffle": lambda x, upscale_factor: F.pixel_shuffle(x, int(upscale_factor)),
    "pixel_unshuffle": lambda x, downscale_factor: F.pixel_unshuffle(x, int(downscale_factor)),
    "reshape": reshape,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "split": split,
    "squeeze": squeeze,
    "stack": lambda values, axis: torch.stack(values, int(axis)),
    "tile": lambda x, reps: x.repeat(reps.tolist()),
    "transpose": lambda x, perm: x.permute(perm.tolist()),
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}

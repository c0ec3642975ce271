"""The arithmetic of the Core ML interpreter: every operation's own parameter names, torch behind them.

Arguments are tensors (numbers too, without axes) or strings. Float16 comes in as float32; the caller rounds results.
The reference is coremltools' description of each operation (`coremltools.converters.mil.mil.ops.defs`).
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def axes_of(x: Tensor, axes: Tensor | None) -> list[int]:
    """The axes an operation names, all when it names none."""
    return list(range(x.dim())) if axes is None else [int(axis) for axis in axes.flatten()]


def _binary(function: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    return lambda x, y: function(x, y)


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x: function(x)


def _shifted(function: Callable[[Tensor], Tensor], epsilon: float) -> Callable[..., Tensor]:
    """Functions that add a number to what they are given, this one unless the program says another."""
    return lambda x, epsilon=epsilon: function(x + epsilon)


def _reduced(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    return lambda x, axes=None, keep_dims=False: function(x, axes_of(x, axes), bool(keep_dims))


def _extreme(function: Callable[[Tensor, int, bool], Tensor]) -> Callable[..., Tensor]:
    return lambda x, axis=-1, keep_dims=False, output_dtype="int32": function(x, int(axis), bool(keep_dims))


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Three forms, named by `mode`."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """x held between alpha and beta."""
    return torch.minimum(torch.maximum(x, alpha), beta)


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond holds, else b."""
    return torch.where(cond.bool(), a, b)


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    """A scale and a shift of each channel; coremltools writes it where other norms end in them."""
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, float(epsilon))


def layer_norm(
    x: Tensor,
    axes: Tensor | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    """Norm over the last axes, which are the ones every converter writes."""
    named = sorted(axis % x.dim() for axis in axes_of(x, axes))
    if named != list(range(x.dim() - len(named), x.dim())):
        raise ValueError(f"layer_norm over axes {named} of {x.dim()}, only the last ones are known")
    return F.layer_norm(x, x.shape[named[0] :], gamma, beta, float(epsilon))


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """query (..., N, D), key and value (..., T, D) -> (..., N, D)."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., D), weight (E, D) -> (..., E)."""
    return F.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: Tensor | bool = False, transpose_y: Tensor | bool = False) -> Tensor:
    """Product over the last two axes."""
    left = x.transpose(-1, -2) if transpose_x else x
    right = y.transpose(-1, -2) if transpose_y else y
    return left @ right


def _padding(pad_type: str, pad: Tensor | None, count: int) -> list[int]:
    """(before, after) of every axis, in order."""
    if pad_type == "valid" or pad is None:
        return [0] * 2 * count
    if pad_type != "custom":
        raise ValueError(f"padding {pad_type!r}, only 'valid' and 'custom' are known")
    return pad.tolist()


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
) -> Tensor:
    """x (B, C, H, W), weight (E, C / groups, h, w) -> (B, E, H', W'); the same in one and three dimensions."""
    count = weight.dim() - 2
    before_after = _padding(pad_type, pad, count)
    last_first = [side for axis in reversed(range(count)) for side in before_after[2 * axis : 2 * axis + 2]]
    function = (F.conv1d, F.conv2d, F.conv3d)[count - 1]
    ones = [1] * count
    return function(
        F.pad(x, last_first) if any(last_first) else x,
        weight,
        bias,
        stride=ones if strides is None else strides.tolist(),
        dilation=ones if dilations is None else dilations.tolist(),
        groups=int(groups),
    )


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    output_shape: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
) -> Tensor:
    """x (B, C, H, W), weight (C, E / groups, h, w) -> (B, E, H', W'). The result's shape is checked by the caller."""
    count = weight.dim() - 2
    before_after = _padding(pad_type, pad, count)
    if before_after[::2] != before_after[1::2]:
        raise ValueError(f"uneven padding {before_after} of a transposed convolution is not known")
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[count - 1]
    ones = [1] * count
    return function(
        x,
        weight,
        bias,
        stride=ones if strides is None else strides.tolist(),
        padding=before_after[::2],
        dilation=ones if dilations is None else dilations.tolist(),
        groups=int(groups),
    )


ARITHMETIC: dict[str, Callable[..., Tensor]] = {
    "abs": _unary(torch.abs),
    "add": _binary(operator.add),
    "batch_norm": batch_norm,
    "clip": clip,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "cos": _unary(torch.cos),
    "equal": _binary(torch.eq),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "floor": _unary(torch.floor),
    "gelu": gelu,
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "inverse": _shifted(torch.reciprocal, 1e-4),
    "layer_norm": layer_norm,
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "linear": linear,
    "log": _shifted(torch.log, 1e-45),
    "logical_and": _binary(torch.logical_and),
    "logical_not": _unary(torch.logical_not),
    "logical_or": _binary(torch.logical_or),
    "matmul": matmul,
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mul": _binary(operator.mul),
    "not_equal": _binary(torch.ne),
    "pow": _binary(operator.pow),
    "real_div": _binary(operator.truediv),
    "reduce_argmax": _extreme(torch.argmax),
    "reduce_argmin": _extreme(torch.argmin),
    "reduce_l2_norm": _reduced(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "reduce_max": _reduced(torch.amax),
    "reduce_mean": _reduced(torch.mean),
    "reduce_min": _reduced(torch.amin),
    "reduce_sum": _reduced(torch.sum),
    "relu": _unary(torch.relu),
    "rsqrt": _shifted(torch.rsqrt, 1e-12),
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "select": select,
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(F.silu),
    "sin": _unary(torch.sin),
    "softmax": lambda x, axis=-1: torch.softmax(x, int(axis)),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "sub": _binary(operator.sub),
    "tanh": _unary(torch.tanh),
}

"""The networks in operations that float16 can hold: nothing is squared or summed before it was brought to at most 1.

Float16 ends at 65504, so plain norms overflow where activations pass 256. Keeping norms in float32 would cost more than
it looks: the Neural Engine has no float32, and every norm would break the network in two. All of this is exact, and the
weights stay shared except those of a VQ-GAN with group norms.
"""

import copy
import math

import torch
from torch import Tensor, nn

from amused_lite.export.modules import transposed
from amused_lite.models.layers import GlobalResponseNorm, RMSNorm
from amused_lite.models.vqgan import ConvResBlock, Decoder, Encoder, Upsample

SMALLEST = 2.0**-14  # the smallest number that float16 holds with all its digits
QUIET = 1 / 32  # scale of a VQ-GAN's inner grids: room for 2 million


def shrink(x: Tensor, dim: int | tuple[int, ...], floor: float) -> tuple[Tensor, Tensor]:
    """x as (values of at most 1, their scale), a scale for each slice along `dim`, and no scale below `floor`."""
    scale = x.abs().amax(dim, keepdim=True).clamp_min(floor)
    return x / scale, scale


def over(number: float, scale: Tensor) -> Tensor:
    """number / scale. Left to itself coremltools writes an inverse, to whose argument Core ML adds 1e-4."""
    return torch.full_like(scale, number) / scale


class HalfRMSNorm(nn.Module):
    """`RMSNorm`: with x = scale * y it is y / sqrt(mean(y^2) + eps / scale^2), times the weight."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.root = math.sqrt(norm.eps)
        self.weight = norm.weight

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D)."""
        y, scale = shrink(x, -1, max(self.root, SMALLEST))
        return y * torch.rsqrt(y.square().mean(-1, keepdim=True) + over(self.root, scale).square()) * self.weight


class HalfResponseNorm(nn.Module):
    """`GlobalResponseNorm`: shrunk per channel before squares are summed, and again before channels are averaged."""

    def __init__(self, norm: GlobalResponseNorm) -> None:
        super().__init__()
        self.gamma, self.beta = norm.gamma, norm.beta

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H, W, D)."""
        y, scale = shrink(x, (1, 2), SMALLEST)
        response, largest = shrink(y.square().mean((1, 2), keepdim=True).sqrt() * scale, -1, SMALLEST)  # (B, 1, 1, D)
        # The published 1e-6 is added to a root of a sum; this is a root of a mean.
        eps = 1e-6 / math.sqrt(x.shape[1] * x.shape[2])
        relative = response / (response.mean(-1, keepdim=True) + over(eps, largest))
        return x * (self.gamma * relative + 1) + self.beta


class HalfGroupNorm(nn.Module):
    """Group norm, shrunk per group; means over rows first, so that no sum has more than a few thousand parts."""

    def __init__(self, groups: int, eps: float, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.groups, self.root = groups, math.sqrt(eps)
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W)."""
        rows = x.unflatten(1, (self.groups, -1)).flatten(2, 3)  # (B, G, C/G * H, W)
        y, scale = shrink(rows, (-2, -1), max(self.root, SMALLEST))
        y = y - y.mean(-1, keepdim=True).mean(-2, keepdim=True)
        variance = y.square().mean(-1, keepdim=True).mean(-2, keepdim=True)  # (B, G, 1, 1)
        y = y * torch.rsqrt(variance + over(self.root, scale).square())
        return y.reshape(x.shape) * self.weight[:, None, None] + self.bias[:, None, None]


def _quieten(part: Encoder | Decoder) -> None:
    """Scale the inner grids by `QUIET`; only norms read them, and norms are invariant to scale.

    The published decoder is known to leave float16 (its configuration says `force_upcast`), and this gives it room.
    """

    def scale(conv: nn.Module, weight: float) -> None:
        if isinstance(conv, nn.Conv2d):
            conv.weight = nn.Parameter(conv.weight * weight, requires_grad=False)
            conv.bias = None if conv.bias is None else nn.Parameter(conv.bias * QUIET, requires_grad=False)

    scale(part.stem, QUIET)
    for conv in part.ups if isinstance(part, Decoder) else part.downs:
        scale(conv, 1)  # these read a grid that is scaled already
    for block in part.modules():
        if isinstance(block, ConvResBlock):
            scale(block.conv1, QUIET)
            scale(block.conv2, QUIET)
            scale(block.shortcut, 1)
        elif isinstance(block, nn.GroupNorm):
            block.eps *= QUIET**2


def halfable(module: nn.Module) -> nn.Module:
    """The same function in operations that are safe in float16; itself still float32."""
    copied = copy.deepcopy(module, memo={id(weight): weight for weight in module.parameters()})
    for part in copied.modules():
        if isinstance(part, Encoder | Decoder) and isinstance(part.norm, nn.GroupNorm):
            _quieten(part)
    for path, child in list(copied.named_modules()):
        match child:
            case RMSNorm():
                copied.set_submodule(path, HalfRMSNorm(child))
            case GlobalResponseNorm():
                copied.set_submodule(path, HalfResponseNorm(child))
            case Upsample():
                copied.set_submodule(path, transposed(child))
            case nn.GroupNorm():
                copied.set_submodule(path, HalfGroupNorm(child.num_groups, child.eps, child.weight, child.bias))
    return copied

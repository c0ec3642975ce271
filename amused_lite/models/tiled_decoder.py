"""The VQ-GAN decoder with its large maps in strips: the same picture, bit for bit but for sums, in half the memory.

A map of 128 channels at 512 x 512 is 134 MB, and norm, SiLU and convolution each make another. Here a map is a row of
strips; an operation reads one strip with a line of its neighbours, so that there are no seams, and only what the next
norm has to see whole is kept whole. Group norms take their means over all strips first.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.models.vqgan import ConvResBlock, Decoder, Upsample

COUNT = 16  # strips of a map
SMALLEST = 256  # lines: maps below are computed whole


class Map(ABC):
    """Lines (B, C, H, W) in `COUNT` strips."""

    @abstractmethod
    def window(self, index: int) -> Tensor:
        """One strip with the line above and the line below it, where the picture has them: (B, C, h + 0...2, W)."""

    def strip(self, index: int) -> Tensor:
        """One strip alone: (B, C, h, W)."""
        lines = self.window(index)
        return lines[:, :, int(index > 0) : lines.shape[2] - int(index < COUNT - 1)]


class Kept(Map):
    """A map (B, C, H, W) held in memory as `COUNT` strips."""

    def __init__(self, strips: Sequence[Tensor]) -> None:
        self.strips = list(strips)

    def window(self, index: int) -> Tensor:
        above = [self.strips[index - 1][:, :, -1:]] if index else []
        below = [self.strips[index + 1][:, :, :1]] if index < COUNT - 1 else []
        return torch.cat([*above, self.strips[index], *below], 2)

    def strip(self, index: int) -> Tensor:
        return self.strips[index]


class Scaled(Map):
    """A map times a scale and plus a shift, both (B, C, 1, 1)."""

    def __init__(self, source: Map, scale: Tensor, shift: Tensor) -> None:
        """`scale`, `shift`: (B, C, 1, 1)."""
        self.source, self.scale, self.shift = source, scale, shift

    def window(self, index: int) -> Tensor:
        return self.source.window(index) * self.scale + self.shift


class Upsampled(Map):
    """A transposed convolution of another map; each strip is computed when it is read and not kept."""

    def __init__(self, source: Map, kernel: Tensor, bias: Tensor) -> None:
        """`kernel`: (in, out, 4, 4), see `vqgan.Upsample`."""
        self.source, self.kernel, self.bias = source, kernel, bias

    def window(self, index: int) -> Tensor:
        lines = F.conv_transpose2d(self.source.window(index), self.kernel, self.bias, stride=2, padding=1)
        # The outermost line beside a cut lacks a neighbour.
        return lines[:, :, int(index > 0) : lines.shape[2] - int(index < COUNT - 1)]

    def scaled(self, scale: Tensor, shift: Tensor) -> "Upsampled":
        """`Scaled` for one picture, put into the kernel.

        So the scaling costs nothing, and engines do not merge it with the unscaled map and keep that in memory.
        """
        return Upsampled(self.source, self.kernel * scale, self.bias * scale.flatten() + shift.flatten())

    def through(self, pointwise: nn.Conv2d) -> "Upsampled":
        """A 1x1 convolution of it, put into the kernel."""
        assert pointwise.bias is not None
        matrix = pointwise.weight.flatten(1)  # (to, out)
        return Upsampled(
            self.source, torch.einsum("iokl,to->itkl", self.kernel, matrix), matrix @ self.bias + pointwise.bias
        )


def _upsampled(x: Map, upsample: Any) -> Upsampled:
    """`upsample`: an `Upsample`, or the transposed convolution that it is; see `vqgan`."""
    kernel, bias = upsample.merged() if isinstance(upsample, Upsample) else upsample.weight, upsample.bias
    assert bias is not None
    return Upsampled(x, kernel, bias)


def cut(x: Tensor) -> Kept:
    """A whole map (B, C, H, W) in strips."""
    return Kept(x.chunk(COUNT, 2))


def _normed(source: Map, norm: Any) -> Map:
    """A map after a norm: group norms take the means of the whole map."""
    if not hasattr(norm, "num_groups"):
        return source
    both = []  # each strip's mean and variance together, or an engine may take all means first and keep all strips
    for index in range(COUNT):
        groups = source.strip(index).unflatten(1, (norm.num_groups, -1)).flatten(2, 3)  # (B, G, C/G * h, W)
        mean = groups.mean(-1, keepdim=True).mean(-2, keepdim=True)
        both.append(torch.cat([mean, (groups - mean).square().mean(-1, keepdim=True).mean(-2, keepdim=True)], -1))
    means, variances = torch.cat(both, -2).split(1, -1)  # (B, G, COUNT, 1)
    mean = means.mean(-2, keepdim=True)
    variance = (variances + (means - mean).square()).mean(-2, keepdim=True)
    weight, bias = (value.unflatten(0, (norm.num_groups, -1)) for value in (norm.weight, norm.bias))  # (G, C/G)
    scale = weight * torch.rsqrt(variance + norm.eps)[..., 0]  # (B, G, C/G)
    shift = bias - mean[..., 0] * scale
    scale, shift = (value.flatten(1)[..., None, None] for value in (scale, shift))
    if isinstance(source, Upsampled) and len(scale) == 1:
        return source.scaled(scale, shift)
    return Scaled(source, scale, shift)


def _convolved(x: Map, convolution: nn.Conv2d, index: int) -> Tensor:
    """One strip of SiLU and a 3x3 convolution of a map; zeros lie around the picture only."""
    lines = F.pad(F.silu(x.window(index)), (1, 1, int(index == 0), int(index == COUNT - 1)))
    return F.conv2d(lines, convolution.weight, convolution.bias)


def block_tiled(block: ConvResBlock, x: Map) -> Kept:
    """`ConvResBlock.forward`. What the shortcut takes is read again at the end, and not kept until then."""
    normed = _normed(x, block.norm1)
    middle = Kept([_convolved(normed, block.conv1, index) for index in range(COUNT)])
    normed = _normed(middle, block.norm2)
    shortcut: Any = block.shortcut
    if isinstance(x, Upsampled) and isinstance(shortcut, nn.Conv2d):
        x, shortcut = x.through(shortcut), nn.Identity()
    return Kept([shortcut(x.strip(index)) + _convolved(normed, block.conv2, index) for index in range(COUNT)])


class TiledDecoder(Decoder):
    """A decoder that computes its large maps in strips."""

    def forward(self, latents: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        return decode_tiled(self, latents)


def decode_tiled(decoder: Decoder, latents: Tensor, smallest: int = SMALLEST) -> Tensor:
    """`Decoder.forward`: latents (B, Z, h, w) to pixels (B, 3, H, W), not yet clipped.

    smallest: lines a map has at least to be computed in strips.
    """
    x: Any = decoder.middle(decoder.stem(latents))
    for level, blocks in enumerate(decoder.levels):
        for block in blocks:  # type: ignore[attr-defined]
            x = block_tiled(block, x) if isinstance(x, Map) else block(x)
        if level < len(decoder.ups):
            side = latents.shape[2] * 2 ** (level + 1)
            if not isinstance(x, Map) and side >= smallest:
                x = cut(x)
            x = _upsampled(x, decoder.ups[level]) if isinstance(x, Map) else decoder.ups[level](x)
    if not isinstance(x, Map):
        x = decoder.out(F.silu(decoder.norm(x)))
    else:
        x = _normed(x, decoder.norm)
        x = torch.cat([_convolved(x, decoder.out, index) for index in range(COUNT)], 2)
    return F.pixel_shuffle(x, decoder.patch_size) if decoder.patch_size > 1 else x

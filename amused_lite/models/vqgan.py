"""The VQ-GAN (Esser et al. 2021): pixels to codebook indices and back. Knows no text and no U-ViT.

aMUSEd's has no attention, pixels in 0...1, and plain nearest codes. The tiny preset adds three things the published
one does not have, to be trained on a CPU: a patch stem, no norms, and codes on the unit-RMS sphere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.config import VQGANConfig


def _norm(config: VQGANConfig, channels: int) -> nn.Module:
    return nn.GroupNorm(config.norm_groups, channels, eps=1e-6) if config.norm == "group" else nn.Identity()


class ConvResBlock(nn.Module):
    """Norm, SiLU, convolution (3x3), twice; the shortcut is a 1x1 convolution where the width changes."""

    def __init__(self, config: VQGANConfig, channels_in: int, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.norm1 = _norm(config, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2)
        self.norm2 = _norm(config, channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.shortcut = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class Upsample(nn.Conv2d):
    """Nearest-neighbour doubling and a 3x3 convolution, as one transposed convolution.

    Of the nine pixels that the convolution reads after the doubling, five to eight are copies of others. Weights that
    meet the same pixel are added up first, which leaves 16 products for 36.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)

    def merged(self) -> Tensor:
        """The weights (in, out, 4, 4) of the transposed convolution with stride 2 and padding 1."""
        kernel = self.weight
        for axis in (2, 3):
            first, middle, last = kernel.unbind(axis)
            kernel = torch.stack([last, middle + last, first + middle, first], axis)
        return kernel.transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C, 2H, 2W)."""
        return F.conv_transpose2d(x, self.merged(), self.bias, stride=2, padding=1)


class Encoder(nn.Module):
    """Pixels (B, 3, H, W) to latents (B, Z, h, w)."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = (config.channels[0], *config.channels)
        self.stem = nn.Conv2d(3 * config.patch_size**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        self.downs = nn.ModuleList()
        for level, (before, width) in enumerate(zip(widths, config.channels, strict=False)):
            ins = [before] + [width] * (config.layers_per_block - 1)
            blocks = (ConvResBlock(config, c, width, 1 if level and config.local_encoder else 3) for c in ins)
            self.levels.append(nn.Sequential(*blocks))
            if level < len(config.channels) - 1:
                self.downs.append(nn.Conv2d(width, width, 2 if config.local_encoder else 3, stride=2))
        kernel = 1 if config.local_encoder else 3
        self.middle = nn.Sequential(*(ConvResBlock(config, widths[-1], widths[-1], kernel) for _ in range(2)))
        self.norm = _norm(config, widths[-1])
        self.out = nn.Conv2d(widths[-1], config.latent_channels, kernel, padding=kernel // 2)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stem(F.pixel_unshuffle(pixels, self.patch_size) if self.patch_size > 1 else pixels)
        for level, blocks in enumerate(self.levels):
            x = blocks(x)
            if level < len(self.downs):
                down = self.downs[level]
                x = down(F.pad(x, (0, 1, 0, 1)) if down.kernel_size == (3, 3) else x)  # taming's one-sided padding
        return self.out(F.silu(self.norm(self.middle(x))))


class Decoder(nn.Module):
    """Latents (B, Z, h, w) to pixels (B, 3, H, W), not yet clipped."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        channels = config.channels[::-1]
        self.stem = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.middle = nn.Sequential(*(ConvResBlock(config, channels[0], channels[0]) for _ in range(2)))
        self.levels = nn.ModuleList()
        self.ups = nn.ModuleList()
        for level, (before, width) in enumerate(zip((channels[0], *channels), channels, strict=False)):
            ins = [before] + [width] * config.layers_per_block  # one block more than the encoder has
            self.levels.append(nn.Sequential(*(ConvResBlock(config, c, width) for c in ins)))
            if level < len(channels) - 1:
                self.ups.append(Upsample(width))
        self.norm = _norm(config, channels[-1])
        self.out = nn.Conv2d(channels[-1], 3 * config.patch_size**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.middle(self.stem(latents))
        for level, blocks in enumerate(self.levels):
            x = blocks(x)
            if level < len(self.ups):
                x = self.ups[level](x)
        x = self.out(F.silu(self.norm(x)))
        return F.pixel_shuffle(x, self.patch_size) if self.patch_size > 1 else x


class VQGAN(nn.Module):
    """Encoder, codebook (K, Z) and decoder."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        width = config.latent_channels
        self.encoder = Encoder(config)
        self.pre_quant = nn.Conv2d(width, width, 1)
        self.codebook = nn.Parameter(torch.empty(config.codebook_size, width).uniform_(-1, 1) / config.codebook_size)
        self.post_quant = nn.Conv2d(width, width, 1)
        self.decoder = Decoder(config.decoder)

    def latents(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in 0...1 -> latents before quantization (B, h, w, Z)."""
        z = self.pre_quant(self.encoder(pixels)).permute(0, 2, 3, 1)
        return z * torch.rsqrt(z.square().mean(-1, keepdim=True) + 1e-6) if self.config.spherical else z

    def nearest(self, latents: Tensor) -> Tensor:
        """latents (..., Z) -> indices of the nearest codes (...), as one matrix product."""
        # The latent's own norm is the same for every code and drops out of the comparison.
        distance = self.codebook.square().sum(-1) - 2 * latents @ self.codebook.T
        return distance.argmin(-1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in 0...1 -> tokens (B, h*w)."""
        return self.nearest(self.latents(pixels)).flatten(1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, h, w, Z) -> pixels (B, 3, H, W), unclipped so that training sees the error."""
        return self.decoder(self.post_quant(latents.permute(0, 3, 1, 2)))

    def decode_image(self, tokens: Tensor) -> Tensor:
        """tokens (B, N) of a square grid -> pixels (B, 3, H, W) in 0...1."""
        side = int(tokens.shape[1] ** 0.5)
        return self.decode_latents(F.embedding(tokens, self.codebook).unflatten(1, (side, side))).clamp(0, 1)

"""The parts that the networks share. Shapes: B batch, N tokens, T text positions, D width, H x W a grid."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis (Zhang and Sennrich 2019), variance in float32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return (x * scale.to(x.dtype)) * self.weight.to(x.dtype)


class ScaleNorm(nn.Module):
    """Layer norm with a weight and no bias: the third norm of each aMUSEd transformer layer."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (x.shape[-1],), self.weight.to(x.dtype), None, self.eps)


class GlobalResponseNorm(nn.Module):
    """ConvNeXt V2's response norm (Woo et al. 2023, section 3.2) on channels-last grids (B, H, W, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        # The floor keeps the gradient finite where GELU made a whole channel 0: sqrt has no gradient at 0.
        response = x.float().square().sum((1, 2), keepdim=True).clamp_min(1e-24).sqrt()  # (B, 1, 1, D)
        relative = response / (response.mean(-1, keepdim=True) + 1e-6)
        return self.gamma.to(x.dtype) * (x * relative.to(x.dtype)) + self.beta.to(x.dtype) + x


def modulate(x: Tensor, scale_shift: Tensor) -> Tensor:
    """x (B, N, D) scaled and shifted by scale_shift (B, 2, D)."""
    return x * (1 + scale_shift[:, None, 0]) + scale_shift[:, None, 1]


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Softmax attention. query (B, N, D), key and value (B, T, D) -> (B, N, D)."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if torch.is_grad_enabled() and query.device.type == "cpu":
        # The tiny preset's training step takes 1.2x as long with the fused kernel (docs/log.md).
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        mixed = weights.to(value.dtype) @ value
    else:
        mixed = F.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).flatten(-2)


class SelfAttention(nn.Module):
    """Attention among the tokens, no biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(attend(self.query(x), self.key(x), self.value(x), self.heads))


class TextAttention(nn.Module):
    """The token side of cross-attention; keys and values come ready from the prompt (`TextKeyValue`)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, key_value: Tensor) -> Tensor:
        """x (B, N, D), key_value (B, 2, T, D) -> (B, N, D)."""
        return self.out(attend(self.query(x), key_value[:, 0], key_value[:, 1], self.heads))


class TextKeyValue(nn.Module):
    """The text side of cross-attention: text (B, T, E) -> keys and values (B, 2, T, D)."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(text_width, width, bias=False)
        self.value = nn.Linear(text_width, width, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        return torch.stack([self.key(text), self.value(text)], dim=1)


class GatedFeedForward(nn.Module):
    """GEGLU (Shazeer 2020): the first half of the widened features times the GELU of the second."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, 2 * inner_width, bias=False)
        self.narrow = nn.Linear(inner_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        linear, gate = self.widen(x).chunk(2, dim=-1)
        return self.narrow(linear * F.gelu(gate))


def sinusoids(values: Tensor, width: int) -> Tensor:
    """Sinusoidal features of numbers (..., ) -> (..., width): cosines first, then sines, periods up to 10,000."""
    half = width // 2
    # The published order of operations: the angle of a large number shows the rounding of its frequency.
    exponents = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=values.device) / half
    angles = values.float()[..., None] * torch.exp(exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)

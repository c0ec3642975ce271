"""CLIP's image tower for a frozen text tower: pixels (B, 3, S, S) to vectors near those of their captions.

Small, since it ranks pictures and does not draw them. Knows no captions and no files.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.config import RANKER_SIDE, TextConfig
from amused_lite.models.clip_text import TextLayer

_STEM = ((3, 64, 4), (64, 112, 2), (112, 160, 2))  # convolutions: channels in and out, and by how much they shrink
_LAYERS = 3


class CLIPImage(nn.Module):
    """Convolutions, then a transformer without a causal mask (Radford et al. 2021; the stem is Xiao et al. 2021's)."""

    def __init__(self, projection_width: int) -> None:
        super().__init__()
        width = _STEM[-1][1]
        config = TextConfig(width=width, heads=5, feedforward_width=4 * width, activation="gelu")
        # The first looks at patches of one token, as a picture of 512 pixels has them.
        self.stem = nn.ModuleList(
            nn.Conv2d(inputs, outputs, max(3, shrink), shrink, padding=1 if shrink < 3 else 0)
            for inputs, outputs, shrink in _STEM
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, outputs) for _, outputs, _ in _STEM)
        self.positions = nn.Embedding((RANKER_SIDE // 16) ** 2, width)
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(_LAYERS))
        self.final_norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, projection_width, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, 128, 128) in 0...1 -> vectors of length 1 (B, P)."""
        x = 2 * pixels - 1
        for convolution, norm in zip(self.stem, self.norms, strict=True):
            x = F.gelu(norm(convolution(x)))
        x = x.flatten(2).mT + self.positions.weight  # (B, 64, D)
        for layer in self.layers:
            x = layer(x, None)
        return F.normalize(self.projection(self.final_norm(x).mean(1)), dim=-1)

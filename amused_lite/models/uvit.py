"""The U-ViT (aMUSEd, section 3): image tokens and text in, logits over the codebook out.

The network is cut where the data is: `PromptSide` holds every weight that sees only the prompt, `TokenSide` every
weight that sees a token. A generation runs the first once and the second at each step. Knows nothing of sampling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.conditioning import Conditioning
from amused_lite.config import UViTConfig
from amused_lite.models.layers import (
    GatedFeedForward,
    GlobalResponseNorm,
    RMSNorm,
    ScaleNorm,
    SelfAttention,
    TextAttention,
    TextKeyValue,
    modulate,
    sinusoids,
)


class PromptSide(nn.Module):
    """Text features and micro-conditioning to `Conditioning`, once per prompt."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config = config
        hidden, block = config.hidden_size, config.block_width
        blocks = 2 * config.res_blocks
        self.text_projection = nn.Linear(config.text_width, hidden, bias=False)
        self.text_norm = RMSNorm(hidden, config.norm_eps)
        self.condition_in = nn.Linear(config.pooled_width + 5 * config.micro_width, hidden, bias=False)
        self.condition_out = nn.Linear(hidden, hidden, bias=False)
        # aMUSEd maps the text to the block width first, unless the widths happen to be equal.
        self.block_text = nn.ModuleList(
            nn.Identity() if hidden == block else nn.Linear(hidden, block, bias=False) for _ in range(blocks)
        )
        self.block_key_value = nn.ModuleList(TextKeyValue(block, block) for _ in range(2 * blocks))
        self.block_modulation = nn.ModuleList(nn.Linear(hidden, 2 * block, bias=False) for _ in range(blocks))
        self.layer_key_value = nn.ModuleList(TextKeyValue(hidden, hidden) for _ in range(config.layers))
        self.layer_modulation = nn.ModuleList(
            nn.Linear(hidden, 2 * hidden, bias=False) for _ in range(3 * config.layers)
        )

    def forward(self, text_states: Tensor, pooled_text: Tensor, micro_conditioning: Tensor) -> Conditioning:
        """text_states (B, T, E), pooled_text (B, P), micro_conditioning (B, 5) -> `Conditioning`."""
        text = self.text_norm(self.text_projection(text_states))  # (B, T, D)
        micro = sinusoids(micro_conditioning, self.config.micro_width).flatten(1)  # (B, 5 * micro_width)
        condition = torch.cat([pooled_text, micro.to(pooled_text.dtype)], dim=1)
        condition = F.silu(self.condition_out(F.silu(self.condition_in(condition))))  # (B, D), as every user wants it
        block_texts = [text if isinstance(mapper, nn.Identity) else mapper(F.silu(text)) for mapper in self.block_text]
        layers = self.config.layers
        return Conditioning(
            block_text=torch.stack([kv(block_texts[i // 2]) for i, kv in enumerate(self.block_key_value)], dim=1),
            layer_text=torch.stack([kv(text) for kv in self.layer_key_value], dim=1),
            block_modulation=torch.stack([m(condition).unflatten(1, (2, -1)) for m in self.block_modulation], dim=1),
            layer_modulation=torch.stack(
                [m(condition).unflatten(1, (2, -1)) for m in self.layer_modulation], dim=1
            ).unflatten(1, (layers, 3)),
        )


class ResBlock(nn.Module):
    """ConvNeXt block, then scale and shift; the modulation comes after the residual sum. Channels last throughout."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = RMSNorm(width, eps)
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.response_norm = GlobalResponseNorm(4 * width)
        self.narrow = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, scale_shift: Tensor) -> Tensor:
        """x (B, H, W, C), scale_shift (B, 2, C)."""
        y = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = self.narrow(self.response_norm(F.gelu(self.widen(self.norm(y)))))
        return modulate((x + y).flatten(1, 2), scale_shift).unflatten(1, x.shape[1:3])


class BlockAttention(nn.Module):
    """Two cross-attentions to the text and nothing else: no self-attention and no feed-forward here."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(2))
        self.attentions = nn.ModuleList(TextAttention(width, heads) for _ in range(2))

    def forward(self, x: Tensor, key_values: Tensor) -> Tensor:
        """x (B, N, C), key_values (B, 2, 2, T, C)."""
        for i, (norm, attention) in enumerate(zip(self.norms, self.attentions, strict=True)):
            x = x + attention(norm(x), key_values[:, i])
        return x


class ConvBlock(nn.Module):
    """The down or the up side: residual blocks, each followed by attention to the text."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        width = config.block_width
        self.res_blocks = nn.ModuleList(ResBlock(width, config.norm_eps) for _ in range(config.res_blocks))
        self.attentions = nn.ModuleList(BlockAttention(width, config.block_heads) for _ in range(config.res_blocks))

    def forward(self, x: Tensor, text: Tensor, modulation: Tensor) -> Tensor:
        """x (B, H, W, C), text (B, 2R, 2, T, C), modulation (B, R, 2, C)."""
        grid = x.shape[1:3]
        for i, (res_block, attention) in enumerate(zip(self.res_blocks, self.attentions, strict=True)):
            x = res_block(x, modulation[:, i])
            x = attention(x.flatten(1, 2), text[:, 2 * i : 2 * i + 2]).unflatten(1, grid)
        return x


class TransformerLayer(nn.Module):
    """Self-attention, cross-attention, gated feed-forward, each behind a modulated norm: RMS, RMS, then layer norm."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.self_norm = RMSNorm(width, config.norm_eps)
        self.self_attention = SelfAttention(width, config.heads)
        self.text_norm = RMSNorm(width, config.norm_eps)
        self.text_attention = TextAttention(width, config.heads)
        self.feedforward_norm = ScaleNorm(width, config.norm_eps)
        self.feedforward = GatedFeedForward(width, config.feedforward_width)

    def forward(self, x: Tensor, text: Tensor, modulation: Tensor) -> Tensor:
        """x (B, N, D), text (B, 2, T, D), modulation (B, 3, 2, D)."""
        x = x + self.self_attention(modulate(self.self_norm(x), modulation[:, 0]))
        x = x + self.text_attention(modulate(self.text_norm(x), modulation[:, 1]), text)
        return x + self.feedforward(modulate(self.feedforward_norm(x), modulation[:, 2]))


class TokenSide(nn.Module):
    """Tokens and `Conditioning` to features; the features to logits."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config = config
        width, block, eps = config.token_width, config.block_width, config.norm_eps
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.embedding_norm = RMSNorm(width, eps)
        self.embedding_projection = nn.Linear(width, block, bias=False)  # published as a 1x1 convolution
        if config.resample:
            self.down_norm = RMSNorm(block, eps)
            self.down = nn.Conv2d(block, block, 2, stride=2, bias=False)
            self.up_norm = RMSNorm(block, eps)
            self.up = nn.ConvTranspose2d(block, block, 2, stride=2, bias=False)
        if config.learned_positions:
            self.positions = nn.Parameter(torch.zeros(config.inner_grid, config.inner_grid, block))
        self.down_block = ConvBlock(config)
        self.in_norm = RMSNorm(block, eps)
        self.project_in = nn.Linear(block, config.hidden_size, bias=False)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.out_norm = RMSNorm(config.hidden_size, eps)
        self.project_out = nn.Linear(config.hidden_size, block, bias=False)
        self.up_block = ConvBlock(config)
        self.head_projection = nn.Linear(block, width, bias=False)
        self.head_norm = RMSNorm(width, eps)
        self.head = nn.Linear(width, config.codebook_size, bias=False)

    def features(self, tokens: Tensor, conditioning: Conditioning) -> Tensor:
        """tokens (B, N) -> what the bias-free head turns into logits, (B, N, token width)."""
        text_blocks, modulation_blocks = conditioning.block_text, conditioning.block_modulation
        half = self.config.res_blocks
        side = int(tokens.shape[1] ** 0.5)
        x = self.embedding_projection(self.embedding_norm(self.embedding(tokens))).unflatten(1, (side, side))
        if self.config.resample:
            x = self.down(self.down_norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if self.config.learned_positions:
            x = x + self.positions_for(x.shape[1]).to(x.dtype)
        x = self.down_block(x, text_blocks[:, : 2 * half], modulation_blocks[:, :half])
        inner = x.shape[1:3]
        x = self.project_in(self.in_norm(x.flatten(1, 2)))  # (B, N or N/4, D)
        for i, layer in enumerate(self.layers):
            x = layer(x, conditioning.layer_text[:, i], conditioning.layer_modulation[:, i])
        x = self.project_out(self.out_norm(x)).unflatten(1, inner)
        x = self.up_block(x, text_blocks[:, 2 * half :], modulation_blocks[:, half:])
        if self.config.resample:
            x = self.up(self.up_norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.head_norm(self.head_projection(x.flatten(1, 2)))

    def positions_for(self, side: int) -> Tensor:
        """Learned positions (side, side, C); those of a smaller picture are means of the full grid's."""
        if side == self.config.inner_grid:
            return self.positions
        means = F.adaptive_avg_pool2d(self.positions.permute(2, 0, 1), side)
        return means.permute(1, 2, 0)

    def forward(self, tokens: Tensor, conditioning: Conditioning) -> Tensor:
        """tokens (B, N) integers -> logits (B, N, K) over the codebook; the mask token is never predicted."""
        return self.head(self.features(tokens, conditioning))


class UViT(nn.Module):
    """Both sides in one module, as checkpoints and training want it."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config = config
        self.prompt_side = PromptSide(config)
        self.token_side = TokenSide(config)

    def forward(self, tokens: Tensor, text_states: Tensor, pooled_text: Tensor, micro_conditioning: Tensor) -> Tensor:
        """tokens (B, N), text_states (B, T, E), pooled_text (B, P), micro_conditioning (B, 5) -> logits (B, N, K)."""
        return self.token_side(tokens, self.prompt_side(text_states, pooled_text, micro_conditioning))

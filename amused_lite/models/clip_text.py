"""CLIP's text tower (Radford et al. 2021): token ids to the two text features aMUSEd wants. Knows no tokenizer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.config import TextConfig


class TextLayer(nn.Module):
    """Pre-norm transformer layer; of both towers."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.quick_gelu = config.activation == "quick_gelu"
        self.attention_norm = nn.LayerNorm(width, config.norm_eps)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width, config.norm_eps)
        self.widen = nn.Linear(width, config.feedforward_width)
        self.narrow = nn.Linear(config.feedforward_width, width)

    def forward(self, x: Tensor, causal: Tensor | None) -> Tensor:
        """x (B, T, D); causal (T, T), 0 where attention may look and -inf where not; None where it may everywhere."""
        y = self.attention_norm(x)
        query, key, value = (
            project(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        y = self.widen(self.feedforward_norm(x))
        return x + self.narrow(y * torch.sigmoid(1.702 * y) if self.quick_gelu else F.gelu(y))


class CLIPText(nn.Module):
    """The whole tower. The states aMUSEd attends to are the penultimate ones, before the last layer and final norm."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.zeros(config.context_length, config.width))
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width, config.norm_eps)
        self.projection = nn.Linear(config.width, config.projection_width, bias=False)

    def forward(self, text_ids: Tensor) -> tuple[Tensor, Tensor]:
        """text_ids (B, T), padded with the end token -> text_states (B, T, D), pooled_text (B, P).

        Pooling takes the first end token. OpenAI's checkpoints carry a wrong `eos_token_id` in their configuration,
        and every reader works around it by taking the first occurrence of the largest id, which is the same place.
        """
        length = text_ids.shape[1]
        x = self.embedding(text_ids) + self.positions[:length]
        causal = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        for layer in self.layers[:-1]:
            x = layer(x, causal)
        text_states = x
        x = self.final_norm(self.layers[-1](x, causal))
        end = (text_ids == self.config.end_token_id).int().argmax(-1)  # (B,)
        pooled = x.gather(1, end[:, None, None].expand(-1, 1, x.shape[-1]).long())[:, 0]
        return text_states, self.projection(pooled)

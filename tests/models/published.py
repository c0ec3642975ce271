"""Models made and saved by diffusers and transformers themselves, with random weights, to compare ours with."""

from pathlib import Path
from typing import Any

import libraries  # noqa: F401
import torch
from diffusers import AmusedScheduler, UVit2DModel, VQModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

UVIT: dict[str, Any] = {  # small and odd: no two widths are equal
    "hidden_size": 40,
    "cond_embed_dim": 20,
    "micro_cond_encode_dim": 8,
    "micro_cond_embed_dim": 40,
    "encoder_hidden_size": 24,
    "vocab_size": 72,
    "codebook_size": 64,
    "in_channels": 28,
    "block_out_channels": 36,
    "num_res_blocks": 2,
    "block_num_heads": 3,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 52,
    "sample_size": 8,
}
VQGAN: dict[str, Any] = {
    "block_out_channels": (12, 20),
    "layers_per_block": 2,
    "latent_channels": 6,
    "num_vq_embeddings": 64,
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "mid_block_add_attention": False,
    "lookup_from_codebook": True,
    "force_upcast": True,
}
TEXT: dict[str, Any] = {
    "vocab_size": 99,
    "max_position_embeddings": 11,
    "hidden_size": 24,
    "intermediate_size": 60,
    "projection_dim": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "bos_token_id": 97,
    "eos_token_id": 98,
    "pad_token_id": 98,
}


@torch.no_grad()
def shake(module: nn.Module, seed: int = 0, scale: float = 0.2) -> nn.Module:
    """Weights for comparing: lively ones in place of the zeros and ones that hide a forgotten norm or bias."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim <= 1 or ".channelwise_norm." in name:
            weight.copy_(scale * noise + name.endswith(".weight"))  # norms around 1, biases around 0
        else:
            weight.copy_(noise * weight[0].numel() ** -0.5)
    return module.eval()


def make_uvit(seed: int = 0, **changes: Any) -> UVit2DModel:
    """diffusers' U-ViT; `changes` go over `UVIT`."""
    return shake(UVit2DModel(**(UVIT | changes)), seed)  # type: ignore[return-value]


def make_vqgan(seed: int = 1, **changes: Any) -> VQModel:
    """diffusers' VQ-GAN; `changes` go over `VQGAN`."""
    return shake(VQModel(**(VQGAN | changes)), seed)  # type: ignore[return-value]


def make_text(seed: int = 2, **changes: Any) -> CLIPTextModelWithProjection:
    """transformers' text tower; `changes` go over `TEXT`."""
    return shake(CLIPTextModelWithProjection(CLIPTextConfig(**(TEXT | changes))), seed)  # type: ignore[return-value]


def save(
    folder: Path,
    uvit: UVit2DModel | None = None,
    vqgan: VQModel | None = None,
    text: CLIPTextModelWithProjection | None = None,
    **options: Any,
) -> Path:
    """A published folder written by the libraries' own `save_pretrained`, which `options` go to."""
    uvit = uvit or make_uvit()
    uvit.save_pretrained(folder / "transformer", **options)
    (vqgan or make_vqgan()).save_pretrained(folder / "vqvae", **options)
    (text or make_text()).save_pretrained(folder / "text_encoder", **options)
    AmusedScheduler(mask_token_id=uvit.config["vocab_size"] - 1).save_pretrained(folder / "scheduler")
    return folder


def save_weights(networks: nn.Module, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Our networks in one file under our own names, written by safetensors itself."""
    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in networks.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt"})


def prompt_inputs(batch: int, uvit: UVit2DModel, length: int = 11, seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Random text states (B, T, E), pooled text (B, P) and the sizes, crops and score of a picture (B, 5)."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, length, uvit.config["encoder_hidden_size"], generator=generator)
    pooled = torch.randn(batch, uvit.config["cond_embed_dim"], generator=generator)
    micro = torch.tensor([[512.0, 384.0, 3.0, 17.0, 6.0]]).repeat(batch, 1) + torch.arange(batch)[:, None]
    return states, pooled, micro


def random_tokens(batch: int, grid: int, vocab_size: int, seed: int = 6) -> Tensor:
    """(B, N) int64 codes, about half of them masked."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocab_size - 8, (batch, grid * grid), generator=generator)
    masked = torch.rand(batch, grid * grid, generator=generator) < 0.5
    return tokens.masked_fill(masked, vocab_size - 1)


class PublishedNoise:
    """The numbers that diffusers' scheduler draws from its generator, as standard Gumbel noise for our step.

    `torch.multinomial` of one sample divides the probabilities by exponentials: Gumbel-max by another name.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, batch: int, tokens: int, codes: int, last: bool) -> tuple[Tensor, Tensor]:
        """token_noise (B, N, K), order_noise (B, N); the published last step draws no order."""
        exponential = torch.empty(batch * tokens, codes).exponential_(1, generator=self.generator)
        token_noise = -exponential.view(batch, tokens, codes).log()
        if last:
            return token_noise, torch.zeros(batch, tokens)
        uniform = torch.zeros(batch, tokens).uniform_(0, 1, generator=self.generator)
        return token_noise, -torch.log((-torch.log(uniform.clamp(1e-20))).clamp(1e-20))

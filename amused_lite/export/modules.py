"""The modules of a bundle, whatever format they are exported to: names, inputs, examples. Knows no format.

Shapes are fixed at one picture: accelerators compile fixed shapes best, and pictures are made one by one anyway, so
that picture k of a batch equals the same picture made alone. One axis may stay free: the rows of the conditioning that
`unmask` takes, two for guidance (the negative prompt's, the prompt's), one without.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.bundle import MODULES, RANKER_MODULES
from amused_lite.conditioning import Conditioning
from amused_lite.config import RANKER_SIDE, ModelConfig
from amused_lite.models.networks import Weights
from amused_lite.models.tiled_decoder import TiledDecoder
from amused_lite.models.unmask import UnmaskStep
from amused_lite.models.vqgan import Upsample
from amused_lite.runtimes.graphs import OUTPUTS as OUTPUTS


class EncodePrompt(nn.Module):
    """The text tower and all of the U-ViT that never sees a token."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.text = weights.part("text")
        self.prompt_side = weights.part("uvit.prompt_side")

    def forward(self, text_ids: Tensor, micro_conditioning: Tensor) -> Conditioning:
        """text_ids (B, T) int32, micro_conditioning (B, 5) -> `Conditioning`."""
        return self.prompt_side(*self.text(text_ids), micro_conditioning)


class DecodeImage(nn.Module):
    """Tokens to pixels."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.vqgan = weights.part("vqgan")

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, N) int32 -> pixels (B, 3, H, W) in 0...1."""
        return self.vqgan.decode_image(tokens)


class EncodeImage(nn.Module):
    """Pixels to tokens."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.vqgan = weights.part("vqgan")

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in 0...1 -> tokens (B, N) int32."""
        return self.vqgan.encode_image(pixels).to(torch.int32)


class EmbedText(nn.Module):
    """Prompts to the vectors that the ranker compares."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.text = weights.part("text")

    def forward(self, text_ids: Tensor) -> Tensor:
        """text_ids (B, T) int32 -> vectors of length 1 (B, P)."""
        return F.normalize(self.text(text_ids)[1], dim=-1)


class EmbedImage(nn.Module):
    """Pictures to the vectors that the ranker compares."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.ranker = weights.part("ranker")

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, S, S) in 0...1, S = `config.RANKER_SIDE` -> vectors of length 1 (B, P)."""
        return self.ranker(pixels)


class SteadyGroupNorm(nn.Module):
    """Group norm whose sums stay exact on runtimes that add up a million numbers one by one.

    ONNX Runtime's own is 2e-4 off on 128 channels of 512x512. Sums over rows first and then over columns are thirty
    times closer, and as fast.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.num_groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W)."""
        rows = x.unflatten(1, (self.num_groups, -1)).flatten(2, 3)  # (B, G, C/G * H, W)
        mean = rows.mean(-1, keepdim=True).mean(-2, keepdim=True)  # (B, G, 1, 1)
        variance = (rows - mean).square().mean(-1, keepdim=True).mean(-2, keepdim=True)
        weight, bias = (value.unflatten(0, (self.num_groups, -1)) for value in (self.weight, self.bias))  # (G, C/G)
        scale = weight * torch.rsqrt(variance + self.eps)[..., 0]  # (B, G, C/G)
        shift = bias - mean[..., 0] * scale
        return x * scale.flatten(1)[..., None, None] + shift.flatten(1)[..., None, None]


def exportable(module: nn.Module, merge_upsampling: bool = True, tiled: bool = False) -> nn.Module:
    """The same function, with the same weights, in operations that runtimes compute well.

    Args:
        module: any of a bundle's.
        merge_upsampling: store the merged kernels of `Upsample`, and not the weights that they are made from.
        tiled: decode large maps in strips, for engines that would hold several of them whole.
    """
    shared = {id(weight): weight for weight in module.parameters()}
    copied = copy.deepcopy(module, memo=dict(shared))
    for path, child in list(copied.named_modules()):
        if isinstance(child, nn.GroupNorm):
            copied.set_submodule(path, SteadyGroupNorm(child))
        elif isinstance(child, Upsample) and merge_upsampling:
            copied.set_submodule(path, transposed(child))
    if tiled and isinstance(copied, DecodeImage):
        copied.vqgan.decoder.__class__ = TiledDecoder
    return copied


def transposed(upsample: Upsample) -> nn.ConvTranspose2d:
    """With its weights merged for good."""
    width = upsample.in_channels
    with torch.device("meta"):
        module = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)
    module.weight = nn.Parameter(upsample.merged().detach().contiguous(), requires_grad=False)
    module.bias = upsample.bias
    return module


def load_module(name: str, weights: Weights) -> nn.Module:
    """One module of a bundle with its weights and no other's."""
    match name:
        case "encode_prompt":
            return EncodePrompt(weights).eval()
        case "unmask":
            return UnmaskStep(weights.part("uvit.token_side")).eval()
        case "decode_image":
            return DecodeImage(weights).eval()
        case "encode_image":
            return EncodeImage(weights).eval()
        case "embed_text":
            return EmbedText(weights).eval()
        case "embed_image":
            return EmbedImage(weights).eval()
    raise ValueError(f"no module {name!r} in a bundle; expected one of {', '.join(OUTPUTS)}")


def module_names(config: ModelConfig) -> tuple[str, ...]:
    """The modules of a model's bundle: four, and two more where it has a ranker."""
    return (*MODULES, *RANKER_MODULES) if config.ranker else tuple(MODULES)


def modules(weights: Weights) -> dict[str, nn.Module]:
    """The modules of a bundle, sharing the networks' weights."""
    return {name: load_module(name, weights) for name in module_names(weights.config)}


@torch.no_grad()
def examples(weights: Weights, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Random inputs of one picture for every module, of the kind they meet: module -> input name -> array."""
    config = weights.config
    text, uvit, size = config.text, config.uvit, config.image_size
    generator = torch.Generator().manual_seed(seed)

    def gumbel(*shape: int) -> Tensor:
        return -torch.empty(shape).exponential_(generator=generator).log()

    text_ids = torch.full((2, text.context_length), text.end_token_id, dtype=torch.int32)
    text_ids[:, 0] = text.start_token_id
    words = (1, text.context_length // 2 - 1)  # the first row stays the empty prompt
    text_ids[1:, 1 : 1 + words[1]] = torch.randint(0, text.start_token_id, words, generator=generator).int()
    micro = torch.tensor([[size, size, 0, 0, 6]], dtype=torch.float32).repeat(2, 1)
    pairs = EncodePrompt(weights)(text_ids, micro)
    shape = (1, uvit.num_tokens)
    codes = torch.randint(0, uvit.codebook_size, shape, generator=generator, dtype=torch.int32)
    unknown = torch.rand(shape, generator=generator) < 0.6
    inputs = {
        "encode_prompt": {"text_ids": text_ids[1:], "micro_conditioning": micro[1:]},
        "unmask": {
            "tokens": codes.masked_fill(unknown, uvit.mask_token_id),
            **pairs._asdict(),
            "guidance_scale": torch.tensor([config.guidance_scale]),
            "token_temperature": torch.tensor([config.token_temperature]),
            "mask_temperature": torch.tensor([1.0]),
            "num_masked": (unknown.sum(1) // 2).int(),
            "token_noise": gumbel(*shape, uvit.codebook_size),
            "order_noise": gumbel(*shape),
        },
        "decode_image": {"tokens": codes},
        "encode_image": {"pixels": torch.rand(1, 3, size, size, generator=generator)},
        "embed_text": {"text_ids": text_ids[1:]},
        "embed_image": {"pixels": torch.rand(1, 3, RANKER_SIDE, RANKER_SIDE, generator=generator)},
    }
    return {name: inputs[name] for name in module_names(config)}


def outputs_of(name: str, log_probs: bool = True) -> tuple[str, ...]:
    """Names of a module's outputs, with or without the log-probabilities of every token."""
    return tuple(output for output in OUTPUTS[name] if log_probs or output != "log_probs")


def free_axes(inputs: dict[str, Tensor]) -> dict[str, dict[int, Any] | None]:
    """A module's inputs as torch.export wants its dynamic shapes: the conditioning may have one row or two."""
    rows = torch.export.Dim("rows", min=1, max=2)
    return {name: {0: rows} if name in Conditioning._fields else None for name in inputs}


def input_specs(
    inputs: dict[str, dict[str, Tensor]], free_rows: bool = True
) -> dict[str, dict[str, tuple[str, list[int | str]]]]:
    """As the manifest has them: module -> input name -> (dtype, shape); a word in a shape is a free axis."""

    def spec(name: str, array: Tensor) -> tuple[str, list[int | str]]:
        first = "rows" if free_rows and name in Conditioning._fields else array.shape[0]
        return str(array.dtype).removeprefix("torch."), [first, *array.shape[1:]]

    return {module: {name: spec(name, array) for name, array in arrays.items()} for module, arrays in inputs.items()}

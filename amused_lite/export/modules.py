"""The modules of a bundle, whatever format they are exported to: names, inputs, examples. Knows no format.

Shapes are fixed: one picture, and for `unmask` its (negative, prompt) pair. Accelerators compile fixed shapes best, and
pictures are made one by one anyway, so that picture k of a batch equals the same picture made alone.
"""

import copy

import torch
from torch import Tensor, nn
from tqdm import tqdm

from amused_lite.conditioning import Conditioning
from amused_lite.models.networks import Networks
from amused_lite.models.unmask import UnmaskStep

OUTPUTS = {  # graphs cannot give an output the name of an input
    "encode_prompt": Conditioning._fields,
    "unmask": ("next_tokens", "guess"),
    "decode_image": ("image",),
    "encode_image": ("image_tokens",),
}


class EncodePrompt(nn.Module):
    """The text tower and all of the U-ViT that never sees a token."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.text = networks.text
        self.prompt_side = networks.uvit.prompt_side

    def forward(self, text_ids: Tensor, micro_conditioning: Tensor) -> Conditioning:
        """text_ids (B, T) int32, micro_conditioning (B, 5) -> `Conditioning`."""
        return self.prompt_side(*self.text(text_ids), micro_conditioning)


class DecodeImage(nn.Module):
    """Tokens to pixels."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.vqgan = networks.vqgan

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, N) int32 -> pixels (B, 3, H, W) in 0...1."""
        return self.vqgan.decode_image(tokens)


class EncodeImage(nn.Module):
    """Pixels to tokens."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.vqgan = networks.vqgan

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in 0...1 -> tokens (B, N) int32."""
        return self.vqgan.encode_image(pixels).to(torch.int32)


class SteadyGroupNorm(nn.Module):
    """Group norm whose sums stay exact on runtimes that add up a million numbers one by one.

    ONNX Runtime's own is 2e-4 off on 128 channels of 512x512. Sums over rows first and then over columns are thirty
    times closer, and as fast.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W)."""
        rows = x.unflatten(1, (self.groups, -1)).flatten(2, 3)  # (B, G, C/G * H, W)
        mean = rows.mean(-1, keepdim=True).mean(-2, keepdim=True)  # (B, G, 1, 1)
        variance = (rows - mean).square().mean(-1, keepdim=True).mean(-2, keepdim=True)
        weight, bias = (value.unflatten(0, (self.groups, -1)) for value in (self.weight, self.bias))  # (G, C/G)
        scale = weight * torch.rsqrt(variance + self.eps)[..., 0]  # (B, G, C/G)
        shift = bias - mean[..., 0] * scale
        return x * scale.flatten(1)[..., None, None] + shift.flatten(1)[..., None, None]


def exportable(module: nn.Module) -> nn.Module:
    """The same function, with the same weights, in operations that runtimes compute well."""
    shared = {id(weight): weight for weight in module.parameters()}
    copied = copy.deepcopy(module, memo=dict(shared))
    for path, child in list(copied.named_modules()):
        if isinstance(child, nn.GroupNorm):
            copied.set_submodule(path, SteadyGroupNorm(child))
    return copied


def modules(networks: Networks) -> dict[str, nn.Module]:
    """The four modules of a bundle, sharing the networks' weights."""
    return {
        "encode_prompt": EncodePrompt(networks).eval(),
        "unmask": UnmaskStep(networks.uvit.token_side).eval(),
        "decode_image": DecodeImage(networks).eval(),
        "encode_image": EncodeImage(networks).eval(),
    }


@torch.no_grad()
def examples(networks: Networks, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Random inputs for every module, of the kind they meet: module -> input name -> array."""
    config = networks.config
    text, uvit, size = config.text, config.uvit, config.image_size
    generator = torch.Generator().manual_seed(seed)

    def gumbel(*shape: int) -> Tensor:
        return -torch.empty(shape).exponential_(generator=generator).log()

    text_ids = torch.full((2, text.context_length), text.end_token_id, dtype=torch.int32)
    text_ids[:, 0] = text.start_token_id
    length = text.context_length // 2  # the first row stays the empty prompt
    text_ids[1, 1:length] = torch.randint(0, text.start_token_id, (length - 1,), generator=generator).int()
    micro = torch.tensor([[size, size, 0, 0, 6]], dtype=torch.float32)
    pair = EncodePrompt(networks)(text_ids, micro.repeat(2, 1))
    codes = torch.randint(0, uvit.codebook_size, (1, uvit.num_tokens), generator=generator, dtype=torch.int32)
    unknown = torch.rand(1, uvit.num_tokens, generator=generator) < 0.6
    return {
        "encode_prompt": {"text_ids": text_ids[1:], "micro_conditioning": micro},
        "unmask": {
            "tokens": codes.masked_fill(unknown, uvit.mask_token_id),
            **pair._asdict(),
            "guidance_scale": torch.tensor([config.guidance_scale]),
            "token_temperature": torch.tensor([config.token_temperature]),
            "mask_temperature": torch.tensor([1.0]),
            "num_masked": (unknown.sum(1) // 2).int(),
            "token_noise": gumbel(1, uvit.num_tokens, uvit.codebook_size),
            "order_noise": gumbel(1, uvit.num_tokens),
        },
        "decode_image": {"tokens": codes},
        "encode_image": {"pixels": torch.rand(1, 3, size, size, generator=generator)},
    }


def input_specs(inputs: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, list]]:
    """As the manifest writes them: module -> input name -> [dtype, shape]."""
    return {
        module: {name: [str(array.dtype).removeprefix("torch."), list(array.shape)] for name, array in arrays.items()}
        for module, arrays in inputs.items()
    }


@torch.no_grad()
def colour_table(networks: Networks, side: int = 3, batch: int = 64) -> Tensor:
    """(K, 3) uint8: the mean colour that each code decodes to in the middle of a `side` x `side` grid of itself.

    Costs a decoding of side * side * K tokens: seconds for the tiny preset, many minutes for the published size.
    """
    vqgan = networks.vqgan
    cell, middle = vqgan.config.downsample_factor, side // 2
    span = slice(middle * cell, (middle + 1) * cell)
    codes = torch.arange(vqgan.config.codebook_size).split(batch)
    colours = [
        vqgan.decode_image(some[:, None].expand(-1, side * side))[:, :, span, span].mean((2, 3))
        for some in tqdm(codes, desc="colour table", disable=None, leave=False)  # silent where no one watches
    ]
    return (torch.cat(colours) * 255).round().to(torch.uint8)

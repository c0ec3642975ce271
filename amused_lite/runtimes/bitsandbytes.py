"""Networks with 8- and 4-bit weights, from a `quantized.safetensors` that `quantize` wrote for torch.

Linear layers are bitsandbytes' own; tables and convolutions, which it has not, are widened when they are used. Parts
are built without memory and get their small weights straight from the mapped file: the float ones never exist.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from amused_lite.adapters.lora import WeightedAdapter
from amused_lite.adapters.torch import attach
from amused_lite.config import ModelConfig
from amused_lite.models.networks import empty_part, tensor_shapes
from amused_lite.quantization import SCALE
from amused_lite.system.extras import require_extra

NF4 = ".quant_state.bitsandbytes__nf4"  # behind a weight's name, as bitsandbytes stores what it must know of one
ROW_SCALE = "SCB"  # in the place of "weight": the largest value of each row, as bitsandbytes calls it


def import_bitsandbytes() -> Any:
    """The library, quietly.

    Raises:
        MissingExtraError: it is not installed.
    """
    require_extra("quantize", "a bundle with bitsandbytes' weights", "bitsandbytes")
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # of a kernel that it would fetch from a hub
    import bitsandbytes

    return bitsandbytes


def widen(weight: Tensor, scale: Tensor, shape: torch.Size) -> Tensor:
    """Rounded numbers to float32: the dense form int8, or packed uint8 in 4 bits; see `amused_lite.quantization`."""
    if weight.dtype == torch.uint8:
        halves = torch.stack([weight & 15, weight >> 4], -1).flatten(-2)
        return ((halves.float() - 8) * scale.float()[..., None]).reshape(shape)
    return weight.float() * scale.float()


class RoundedTable(nn.Module):
    """An embedding whose rows are widened when they are looked up."""

    def __init__(self, table: nn.Embedding, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.width = table.embedding_dim
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) -> (..., width)."""
        ids = ids.long()
        return widen(self.weight[ids], self.scale[ids], torch.Size((*ids.shape, self.width)))  # type: ignore[index]


class RoundedConvolution(nn.Module):
    """A convolution of any kind, whose kernel is widened at each call and then dropped."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d, weight: Tensor, scale: Tensor, bias: Any) -> None:
        """`layer` lends its way of computing; it has no memory of its own and is no part of the network."""
        super().__init__()
        self._layer = (layer,)  # in a tuple, where `to` does not find it
        self.kernel_size, self.stride, self.padding = layer.kernel_size, layer.stride, layer.padding
        # A dense kernel lies flat, or asking a network for channels-last pictures would copy it out of its file.
        self.register_buffer("weight", weight if weight.dtype == torch.uint8 else weight.flatten())
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W)."""
        (layer,), stored = self._layer, self.weight
        shape = layer.weight.shape
        kernel = widen(stored if stored.dtype == torch.uint8 else stored.view(shape), self.scale, shape)  # type: ignore
        values = {"weight": kernel} if self.bias is None else {"weight": kernel, "bias": self.bias}
        return torch.func.functional_call(layer, values, (x,))  # type: ignore[arg-type]


class LowBitWeights:
    """`Weights` of a quantized bundle. Adapters are attached beside the rounded layers, which stay as they are."""

    def __init__(self, path: Path, config: ModelConfig, weighted_adapters: Iterable[WeightedAdapter] = ()) -> None:
        """Raises MissingExtraError when bitsandbytes is not installed."""
        import_bitsandbytes()
        self.config = config
        self._path = path
        self._chosen = [choice for choice in weighted_adapters if choice.weight]

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`, in evaluation mode.

        Raises:
            FileNotFoundError: the file is gone.
            ValueError: it is no safetensors file, or its weights are not those of this model.
        """
        module = empty_part(self.config, name)
        if name == "vqgan" and not any(key.startswith("vqgan.encoder.") for key in tensor_shapes(self._path)):
            module.encoder = module.pre_quant = nn.Identity()  # type: ignore[assignment]  # left out of the bundle
        with safe_open(self._path, framework="pt") as file:
            stored = {
                key.removeprefix(f"{name}."): file.get_tensor(key) for key in file.keys() if key.startswith(f"{name}.")
            }
        try:
            for path, layer in list(module.named_modules()):
                rounded = _rounded(path, layer, stored)
                if rounded is not None:
                    module.set_submodule(path, rounded)
            empty = {key for key, weight in module.named_parameters() if weight.is_meta}
            rest = {key: stored[key].float() for key in empty}
            module.load_state_dict(rest, strict=False, assign=True)
        except (KeyError, RuntimeError) as error:
            reason = f"{self._path} does not fit its configuration ({name}: {error})"
            raise ValueError(f"{reason}; quantize the model again") from error
        for choice in self._chosen:
            attach(module, choice, f"{name}.")
        return module.eval()


def _rounded(path: str, layer: nn.Module, stored: Mapping[str, Tensor]) -> nn.Module | None:
    """What takes the place of a layer whose weight is stored in few bits; None where it is not."""
    key = f"{path}.weight"
    if not isinstance(layer, nn.Linear | nn.Embedding | nn.Conv2d | nn.ConvTranspose2d) or key not in stored:
        return None
    weight, bias = stored[key], stored.get(f"{path}.bias")
    bias = None if bias is None else bias.float()
    if isinstance(layer, nn.Linear):
        if key + NF4 in stored:
            return _nf4(layer, key, stored, bias)
        return _int8(layer, weight, stored[f"{path}.{ROW_SCALE}"], bias) if weight.dtype == torch.int8 else None
    if key + SCALE not in stored:
        return None
    if isinstance(layer, nn.Embedding):
        return RoundedTable(layer, weight, stored[key + SCALE])
    return RoundedConvolution(layer, weight, stored[key + SCALE], bias)


def _int8(layer: nn.Linear, weight: Tensor, largest: Tensor, bias: Tensor | None) -> nn.Module:
    bnb = import_bitsandbytes()

    class WeightOnly(bnb.nn.Linear8bitLt):
        """On processors bitsandbytes rounds activations too, slowly, unless it takes the layer to be in training."""

        def train(self, mode: bool = True) -> Any:
            return super().train(True)

    with torch.device("meta"):
        made = WeightOnly(
            layer.in_features, layer.out_features, bias=bias is not None, has_fp16_weights=False, threshold=6.0
        )
    made.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False, CB=weight, SCB=largest)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made


def _nf4(layer: nn.Linear, key: str, stored: Mapping[str, Tensor], bias: Tensor | None) -> nn.Module:
    bnb = import_bitsandbytes()
    with torch.device("meta"):
        made = bnb.nn.Linear4bit(
            layer.in_features, layer.out_features, bias=bias is not None, compute_dtype=torch.float32, quant_type="nf4"
        )
    known = {name.removeprefix(f"{key}."): value for name, value in stored.items() if name.startswith(f"{key}.")}
    parameter = bnb.nn.Params4bit
    made.weight = parameter.from_prequantized(stored[key], known, requires_grad=False, device="cpu", module=made)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made

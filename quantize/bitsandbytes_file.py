"""A model's weights as bitsandbytes wants them, in one safetensors file: linear layers LLM.int8 (Dettmers et al. 2022)
or NF4 (Dettmers et al. 2023), everything else as `amused_lite.quantization` rounds it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amused_lite.bundle import MODULES, QUANTIZED, RANKER_MODULES, WEIGHTS, Bundle
from amused_lite.files.safetensors import write_tensors
from amused_lite.models.networks import PARTS, SavedWeights
from amused_lite.quantization import SCALE, pack, quantize_blocks, quantize_rows
from amused_lite.runtimes.bitsandbytes import ROW_SCALE, import_bitsandbytes

from .scheme import CONVOLUTION, LINEAR, TABLE, TRANSPOSED, QuantizationScheme, WeightFormat

_KINDS = {nn.Linear: LINEAR, nn.Embedding: TABLE, nn.Conv2d: CONVOLUTION, nn.ConvTranspose2d: TRANSPOSED}
NF4_BLOCK = 64  # numbers that share a scale; rows that are no multiple of it take 8 bits


@torch.no_grad()
def quantize_modules(bundle: Bundle, modules: list[str], folder: Path, scheme: QuantizationScheme) -> None:
    """Write `quantized.safetensors`. One part is in memory as float at a time, and all small weights at once."""
    weights = SavedWeights(bundle.path(WEIGHTS), bundle.config)
    held = tuple(start for module in modules for start in (MODULES | RANKER_MODULES)[module])
    stored: dict[str, np.ndarray] = {}
    for part in PARTS:
        if part == "ranker" and not bundle.config.ranker:
            continue
        network = weights.part(part)
        kinds = {f"{path}.weight": _kind_of(layer) for path, layer in network.named_modules()}
        for name, tensor in network.state_dict().items():
            if f"{part}.{name}".startswith(held):
                stored |= _round(part, f"{part}.{name}", kinds.get(name), tensor, scheme)
        del network
    write_tensors(folder / QUANTIZED, stored, {"format": "pt"})


def _kind_of(layer: nn.Module) -> str | None:
    return next((kind for known, kind in _KINDS.items() if isinstance(layer, known)), None)


def _round(part: str, name: str, kind: str | None, tensor: Tensor, scheme: QuantizationScheme) -> dict[str, np.ndarray]:
    form = scheme.format_of(part, name, kind, tuple(tensor.shape), NF4_BLOCK) if kind else None
    if form is None:
        return {name: tensor.numpy().astype(np.float16)}
    if kind == LINEAR:
        return _nf4(name, tensor) if form == WeightFormat(4, NF4_BLOCK) else _int8(name, tensor)
    if form.block:
        rows = len(tensor)
        integers, scale = quantize_blocks(tensor.numpy().reshape(rows, -1), *form)
        return {name: pack(integers, form.bits), name + SCALE: scale}
    axis = 1 if kind == TRANSPOSED else 0
    integers, scale = quantize_rows(tensor.numpy(), tuple(i for i in range(tensor.ndim) if i != axis))
    return {name: integers, name + SCALE: scale}


def _int8(name: str, tensor: Tensor) -> dict[str, np.ndarray]:
    bnb = import_bitsandbytes()
    integers, largest, _ = bnb.functional.int8_vectorwise_quant(tensor.to(torch.float16))
    return {name: integers.numpy(), name.removesuffix("weight") + ROW_SCALE: largest.float().numpy()}


def _nf4(name: str, tensor: Tensor) -> dict[str, np.ndarray]:
    bnb = import_bitsandbytes()
    packed, state = bnb.functional.quantize_4bit(tensor, quant_type="nf4", compress_statistics=True)
    known: dict[str, Any] = state.as_dict(packed=True)
    return {name: packed.numpy(), **{f"{name}.{key}": value.numpy() for key, value in known.items()}}

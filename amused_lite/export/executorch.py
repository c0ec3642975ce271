"""A module to an ExecuTorch program with XNNPACK, `<name>.pte`, for Android and small machines. Shapes are fixed."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.conditioning import Conditioning
from amused_lite.export.modules import exportable, outputs_of
from amused_lite.export.options import ExportOptions
from amused_lite.models.layers import RMSNorm, ScaleNorm
from amused_lite.runtimes.executorch import execute, load_program, silenced
from amused_lite.runtimes.graphs import OUTPUTS

_IN_HALF = (*Conditioning._fields, "guidance_scale")  # the sizes in micro_conditioning are too large for float16


class _PlainOutputs(nn.Module):
    """A module with a plain tuple of float32 and int32 outputs, and with float16 inside where it is asked for."""

    def __init__(self, module: nn.Module, names: list[str], outputs: int, half: bool) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).half() if half else module
        self.names, self.outputs, self.half_inside = names, outputs, half

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        if self.half_inside:
            named = zip(self.names, arrays, strict=True)
            arrays = tuple(array.half() if name in _IN_HALF else array for name, array in named)
        results = self.module(*arrays)
        results = (results,) if isinstance(results, Tensor) else results[: self.outputs]
        return tuple(result.float() if result.is_floating_point() else result for result in results)


class _LinearRMSNorm(nn.Module):
    """`RMSNorm`, with its mean as a product with ones: XNNPACK has no mean over the last axis."""

    def __init__(self, norm: RMSNorm | ScaleNorm) -> None:
        super().__init__()
        self.eps, self.weight = norm.eps, norm.weight
        self.share = torch.full((1, len(norm.weight)), 1 / len(norm.weight))  # no buffer: it stays float32

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D)."""
        scale = torch.rsqrt(F.linear(x.float().square(), self.share) + self.eps)
        return (x * scale.to(x.dtype)) * self.weight.to(x.dtype)


class _LinearScaleNorm(_LinearRMSNorm):
    """`ScaleNorm` likewise."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D)."""
        wide = x.float()
        return super().forward((wide - F.linear(wide, self.share)).to(x.dtype))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as torch computes it, without its five operations for fully masked rows, which do not occur here."""
    share = (query.shape[-1] ** -0.5 if scale is None else scale) ** 0.5  # on both sides, so that float16 holds it
    flat = [x.flatten(0, 1) for x in (query * share, key * share, value)]  # (B * heads, N or T, D / heads)
    scores = torch.bmm(flat[0], flat[1].transpose(1, 2))
    if is_causal:
        rows, columns = (torch.arange(length, device=query.device) for length in scores.shape[1:])
        scores = torch.where(columns <= rows[:, None], scores, torch.full_like(scores, -1e4))
    if attn_mask is not None:
        scores = scores + attn_mask
    return torch.bmm(scores.softmax(-1), flat[2]).unflatten(0, query.shape[:2])


def _split(x: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    """As slices, which XNNPACK knows."""
    return [x.narrow(dim, first, size) for first in range(0, x.shape[dim], size)]


_DECOMPOSITIONS: dict[Any, Any] = {
    torch.ops.aten.scaled_dot_product_attention.default: _attend,
    torch.ops.aten.split.Tensor: _split,
}


def _delegable(module: nn.Module) -> nn.Module:
    """The same function, with the same weights, in operations that XNNPACK takes; others end a delegate."""
    for path, child in list(module.named_modules()):
        match child:
            case RMSNorm():
                module.set_submodule(path, _LinearRMSNorm(child))
            case ScaleNorm():
                module.set_submodule(path, _LinearScaleNorm(child))
    return module


@torch.no_grad()
def write_module(name: str, module: nn.Module, inputs: dict[str, Tensor], folder: Path, options: ExportOptions) -> None:
    """Write `<name>.pte`, with the inputs of the module's forward and the outputs of `OUTPUTS`, in order."""
    half = options.precision_of(name) == "float16"
    plain = _PlainOutputs(
        _delegable(exportable(module)), list(inputs), len(outputs_of(name, options.log_probs)), half
    ).eval()
    with silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, nothing a user could act on
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(plain, tuple(inputs.values()))
        program = program.run_decompositions(_DECOMPOSITIONS)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    with (folder / f"{name}.pte").open("wb") as file:
        lowered.write_to_file(file)


def run_module(name: str, inputs: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Run what was written, on ExecuTorch: output name -> array."""
    method, program = load_program(folder / f"{name}.pte")
    results = execute(method, inputs, list(inputs))
    del program  # it had to outlive the execution
    return dict(zip(OUTPUTS[name], results, strict=False))

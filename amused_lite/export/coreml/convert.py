"""A module to a Core ML package (ML Program), and back from disk through the interpreter. Knows no bundle."""

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amused_lite.conditioning import Conditioning
from amused_lite.export.coreml.half import halfable
from amused_lite.export.coreml.interpreter import InterpretedPackage
from amused_lite.export.modules import exportable, outputs_of
from amused_lite.export.options import ExportOptions
from amused_lite.models.unmask import UnmaskStep
from amused_lite.runtimes.coreml import FUNCTIONS, import_coremltools, inputs_of, read_specification, silenced

ct = import_coremltools()
TARGETS = {"iOS16": ct.target.iOS16, "iOS17": ct.target.iOS17, "iOS18": ct.target.iOS18}
# It takes W - x for x - W (coremltools pull request 2801): encode_image would give the farthest code for the nearest.
_BROKEN_PASSES = {"common::fuse_matmul_weight_bias"}
_DTYPES: dict[str, Any] = dict.fromkeys(("next_tokens", "guess", "image_tokens"), np.int32)
_FLOAT32 = "float32"  # mark of the operations that float16 packages keep in float32


def _log_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """ML Programs have none; coremltools would write log(softmax(x)), which is -inf from -104 on."""
    x = x - x.amax(dim, keepdim=True)
    return x - x.exp().sum(dim, keepdim=True).log()


def _triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """For masks of -inf, which coremltools would multiply by 0. Finite, since not every engine takes infinities."""
    rows, columns = (torch.arange(length, device=x.device) for length in x.shape[-2:])
    return torch.where(columns - rows[:, None] >= diagonal, x, torch.zeros_like(x)).clamp_min(-1e4)


_DECOMPOSITIONS: dict[Any, Any] = {
    torch.ops.aten.alias.default: torch.clone,  # coremltools does not know the one, and drops the other
    torch.ops.aten.log_softmax.int: _log_softmax,
    torch.ops.aten.triu.default: _triu,
}


class _DrawOnly(nn.Module):
    """`UnmaskStep` without its last output, which is 33 MB at 512 pixels and of no use to who only draws."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    @functools.wraps(UnmaskStep.forward)
    def forward(self, *arrays: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
        return self.step(*arrays, **named)[:-1]


def write_module(name: str, module: nn.Module, inputs: dict[str, Tensor], folder: Path, options: ExportOptions) -> None:
    """Write `<name>.mlpackage`, an ML Program with the inputs of the module's forward and the outputs of `OUTPUTS`.

    From iOS18 on a package may hold several functions over the same weights: `unmask` then has a "guided" one, which
    takes two rows of conditioning, and an "unguided" one, which takes one and costs half. Before, it takes two.
    """
    package = folder / f"{name}.mlpackage"
    if name != "unmask" or not options.free_rows:
        return _convert(name, module, inputs, package, options)
    parts = {}
    try:
        for rows, function in FUNCTIONS.items():
            one_or_two = {key: array[-rows:] if key in Conditioning._fields else array for key, array in inputs.items()}
            parts[function] = folder / f".{function}.mlpackage"
            _convert(name, module, one_or_two, parts[function], options)
        merge_functions(parts, package)
    finally:
        for part in parts.values():
            shutil.rmtree(part, ignore_errors=True)


def merge_functions(packages: Mapping[str, Path], out: Path) -> None:
    """Packages as the functions of one (iOS18 and later); weights that are equal are stored once. Adapters fit so, too.

    Args:
        packages: function name -> package with a single function; the last is the default.
        out: the package to write.
    """
    descriptor = ct.utils.MultiFunctionDescriptor()
    for function, package in packages.items():
        descriptor.add_function(str(package), src_function_name="main", target_function_name=function)
        descriptor.default_function_name = function
    with silenced():
        ct.utils.save_multifunction(descriptor, str(out))
    _tidy(out)


@torch.no_grad()
def _convert(name: str, module: nn.Module, inputs: dict[str, Tensor], package: Path, options: ExportOptions) -> None:
    """Write a package with one function, "main"."""
    half = options.precision == "float16"
    module = halfable(module) if half else exportable(module)
    if name == "unmask" and not options.log_probs:
        module = _DrawOnly(module)
    outputs = [ct.TensorType(o, dtype=_DTYPES.get(o, np.float32)) for o in outputs_of(name, options.log_probs)]
    passes = ct.PassPipeline.DEFAULT
    passes.remove_passes(_BROKEN_PASSES)
    with silenced():
        program = torch.export.export(module.eval(), (), dict(inputs)).run_decompositions(_DECOMPOSITIONS)
        _mark(name, program.graph_module.graph)
        ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=TARGETS[options.deployment_target],
            compute_precision=ct.transform.FP16ComputePrecision(_in_half) if half else ct.precision.FLOAT32,
            outputs=outputs,
            pass_pipeline=passes,
            package_dir=str(package),
            skip_model_load=True,
        )
    _tidy(package)


def _tidy(package: Path) -> None:
    """Files that others may read, as everywhere in a bundle; coremltools makes them private."""
    for path in package.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _mark(name: str, graph: torch.fx.Graph) -> None:
    """Mark what stays in float32. coremltools carries one remark of each node along: its stack trace.

    The sampler's tail; the angles of the micro-conditioning, up to 65504 and meaningful to a thousandth; and the choice
    of the nearest code, where near twins differ in the third digit.
    """
    kept = set()
    for node in graph.nodes:
        sources = node.all_input_nodes
        if name == "encode_image" and any(source in kept or "codebook" in source.name for source in sources):
            kept.add(node)
        paths = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        if any(path.split(".")[-1] == "tail" for path in paths):
            kept.add(node)
    for node in reversed(graph.nodes):
        if node.target in (torch.ops.aten.cos.default, torch.ops.aten.sin.default):
            kept.add(node)
        elif name == "encode_prompt" and node.users and all(user in kept for user in node.users):
            kept.add(node)
    for node in graph.nodes:
        node.meta["stack_trace"] = _FLOAT32 if node in kept else ""


def _in_half(operation: Any) -> bool:
    source = ct.converters.mil.mil.scope.ScopeSource.EXIR_STACK_TRACE
    return _FLOAT32 not in operation.scopes.get(source, [])


def run_module(name: str, inputs: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Run what was written, read back from disk by the interpreter: output name -> array."""
    package = folder / f"{name}.mlpackage"
    functions = inputs_of(read_specification(package))
    function = "main" if "main" in functions else FUNCTIONS[len(inputs["block_text"])]
    return InterpretedPackage(package, function)(inputs)

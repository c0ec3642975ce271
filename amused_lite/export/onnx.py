"""A module to an ONNX graph without weights: each graph names slices of the one `weights.safetensors` of its bundle.

Where that file is float16, a Cast in the graph makes float32 of each slice; ONNX Runtime does it once, at loading. In
single-file exports each graph holds its own weights instead.
"""

import json
import logging
import struct
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxscript import optimizer, rewriter
from torch import Tensor, nn

from amused_lite.bundle import WEIGHTS
from amused_lite.config import ModelConfig
from amused_lite.export.modules import OUTPUTS, exportable, free_axes, outputs_of
from amused_lite.export.options import ExportOptions
from amused_lite.files.safetensors import open_tensors
from amused_lite.models.networks import PARTS, Weights, empty_part
from amused_lite.runtimes.onnx import load_session

_STORED = {"float16": torch.float16, "float32": torch.float32}
_LIMIT = 2**31  # bytes of one protocol message
logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns where there is no torchvision
# One of the optimizer's rules looks at every node for a partner among all others, which took most of an export's time
# for the strips of a large decoder. It makes one Split of two Slices, of which these graphs have none.
rewriter._DEFAULT_REWRITE_RULES = tuple(rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule.name != "SlicesSplit")
_PART_OF = {part.rpartition(".")[2]: part for part in PARTS}  # "token_side", as modules name it -> "uvit.token_side"

Tensors = Callable[[str], Iterable[tuple[str, np.ndarray]]]  # a part -> its weights, in the order of their names


def tensors_of(weights: Weights) -> Tensors:
    """The weights of parts that are read as modules."""
    return lambda part: ((name, value.numpy()) for name, value in sorted(weights.part(part).state_dict().items()))


def write_weights(config: ModelConfig, tensors: Tensors, folder: Path, options: ExportOptions) -> None:
    """Write all weights to one safetensors file, one by one: an 8-byte header length, the JSON header, the data.

    Byte for byte what safetensors' own writer makes, which wants all of them in memory at once.

    Raises:
        ValueError: a weight is not finite in float16.
    """
    dtype = np.dtype(options.precision)
    kind = "F16" if dtype == np.float16 else "F32"
    parts = sorted(part for part in PARTS if part != "ranker" or config.ranker)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for part in parts:
        for name, tensor in sorted(empty_part(config, part).state_dict().items()):
            start, end = end, end + tensor.numel() * dtype.itemsize
            header[f"{part}.{name}"] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    with (folder / WEIGHTS).open("wb") as file, np.errstate(over="ignore"):
        file.write(struct.pack("<Q", len(text)) + text)
        for part in parts:
            for name, array in tensors(part):
                stored = np.ascontiguousarray(array, dtype)
                if dtype == np.float16 and not np.isfinite(stored).all():
                    problem = f"{part}.{name} holds values that are not finite as float16"
                    raise ValueError(f"{problem}; export with precision float32")
                file.write(stored.data)


@torch.no_grad()
def write_module(name: str, module: nn.Module, inputs: dict[str, Tensor], folder: Path, options: ExportOptions) -> None:
    """Write `<name>.onnx`, with the inputs of the module's forward and the outputs of `OUTPUTS`.

    Raises:
        ValueError: a single file would be larger than ONNX allows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, nothing a user could act on
        program = torch.onnx.export(
            # The one copy of the weights; ONNX Runtime merges at loading.
            exportable(module, merge_upsampling=False, tiled=True),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(OUTPUTS[name]),
            dynamic_shapes=free_axes(inputs),
            dynamo=True,
            opset_version=options.opset,
            optimize=False,
            verbose=False,
        )
    assert program is not None  # the call returns None only when it is given a path
    model = program.model
    graph = model.graph
    del graph.outputs[len(outputs_of(name, options.log_probs)) :]
    _name_nodes(graph)
    # The optimizer folds whatever is constant, weights too. Disguised as inputs they stay what they are.
    initializers = list(graph.initializers.values())
    for value in initializers:
        del graph.initializers[str(value.name)]
        value.const_value = None
        graph.inputs.append(value)
    optimizer.optimize(model)
    del graph.inputs[len(inputs) :]
    used = [str(value.name) for value in initializers if value.uses()]  # the VQ-GAN's two modules use half of it each
    stored = _held(name, module, used, options) if options.single_file else _slices(folder / WEIGHTS)
    casts: list[ir.Node] = []
    for value in initializers:
        if value.uses():
            casts += _point_to(graph, value, stored[_full_name(str(value.name))])
    if casts:
        graph.insert_before(graph[0], casts)
    _strip(model)
    path = folder / f"{name}.onnx"
    ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)


def run_module(name: str, inputs: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Run what was written, on ONNX Runtime: output name -> array."""
    session = load_session(folder / f"{name}.onnx")
    results: Any = session.run(None, inputs)
    return dict(zip([item.name for item in session.get_outputs()], results, strict=True))


def _full_name(path: str) -> str:
    """A weight's name in the weights file from its path in a module."""
    part, _, rest = path.partition(".")
    return f"{_PART_OF[part]}.{rest}"


class _Slice(ir.ExternalTensor):
    """Where a weight lies in the weights file."""


def _slices(path: Path) -> dict[str, ir.TensorProtocol]:
    """Weight name -> its bytes in the weights file."""
    kinds = {"F16": ir.DataType.FLOAT16, "F32": ir.DataType.FLOAT}
    return {
        name: _Slice(
            path.name,
            entry.offset,
            entry.size,
            kinds[entry.dtype],
            shape=ir.Shape(entry.shape),
            name=name,
            base_dir=path.parent,
        )
        for name, entry in open_tensors(path).entries.items()
    }


def _held(name: str, module: nn.Module, used: list[str], options: ExportOptions) -> dict[str, ir.TensorProtocol]:
    """Weight name -> the weight itself, for graphs that hold their own."""
    dtype = _STORED[options.precision]
    weights = {path: weight for path, weight in module.named_parameters() if path in used}
    size = sum(weight.numel() for weight in weights.values()) * dtype.itemsize
    if size >= _LIMIT:
        remedy = "use --precision float16, or leave --single-file out"
        raise ValueError(f"{name} holds {size / 1e9:.1f} GB of weights, a single ONNX file at most 2.1; {remedy}")
    arrays = {_full_name(path): weight.detach().to(dtype).numpy() for path, weight in weights.items()}
    return {full: ir.Tensor(array, name=full) for full, array in arrays.items()}


def _point_to(graph: ir.Graph, value: ir.Value, weight: ir.TensorProtocol) -> list[ir.Node]:
    """Let an initializer be a stored weight; returns the Cast it needs, if any."""
    dims: Any = weight.shape
    shape = ir.Shape(dims)
    stored = ir.Value(name=weight.name, type=ir.TensorType(weight.dtype), shape=shape, const_value=weight)
    casts = []
    replacement = stored
    if weight.dtype != ir.DataType.FLOAT:
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"cast/{weight.name}")
        replacement = cast.outputs[0]
        replacement.name, replacement.type, replacement.shape = f"{weight.name}/float32", value.type, shape
        casts.append(cast)
    ir.convenience.replace_all_uses_with(value, replacement)
    graph.register_initializer(stored)
    return casts


def _name_nodes(graph: ir.Graph) -> None:
    """Put the module's path before each node's name: quantizers leave out what begins with `tail/`."""
    for node in graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "['', '']")
        inner = [part.strip(" '\"") for part in scopes.strip("[]").split(",")][:-1]
        node.name = f"{inner[-1] or 'main'}/{node.name}"


def _strip(model: ir.Model) -> None:
    """Drop what the exporter remembers: stack traces with this machine's paths, and the shapes of inner values.

    Readers infer those shapes again, and ONNX Runtime's quantizer stumbles over stale ones.
    """
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    graph.doc_string = model.doc_string = None
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        if "/" not in str(node.name):
            node.name = f"main/{node.name}"  # made by the optimizer
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in graph.outputs:
                value.shape = value.type = None
    for value in (*graph.inputs, *graph.initializers.values(), *graph.outputs):
        value.metadata_props.clear()

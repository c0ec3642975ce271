"""A module to OpenVINO's intermediate representation: `<name>.xml` with its weights in `<name>.bin`."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amused_lite.conditioning import Conditioning
from amused_lite.export.modules import exportable, free_axes, outputs_of
from amused_lite.export.options import ExportOptions
from amused_lite.runtimes.graphs import OUTPUTS
from amused_lite.runtimes.openvino import import_openvino, load_graph


@torch.no_grad()
def write_module(name: str, module: nn.Module, inputs: dict[str, Tensor], folder: Path, options: ExportOptions) -> None:
    """Write `<name>.xml` and `<name>.bin`, with the inputs of the module's forward and the outputs of `OUTPUTS`.

    Float16 is how weights are stored; OpenVINO computes in whatever the runtime asks for.
    """
    openvino = import_openvino()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, nothing a user could act on
        axes = free_axes(inputs)
        program = torch.export.export(exportable(module), (), dict(inputs), dynamic_shapes=axes)
        model = openvino.convert_model(program)
    _name_weights(model, module)
    given = outputs_of(name, options.log_probs)
    model = openvino.Model(model.outputs[: len(given)], model.get_parameters(), name)
    for item, output in zip(model.outputs, given, strict=True):
        item.get_tensor().set_names({output})
    shapes = {}
    for item, (input_name, array) in zip(model.inputs, inputs.items(), strict=True):
        item.get_tensor().set_names({input_name})
        first = -1 if input_name in Conditioning._fields else array.shape[0]
        shapes[input_name] = openvino.PartialShape([first, *array.shape[1:]])
    model.reshape(shapes)
    if options.precision == "float16":
        _store_half(model)
    _strip(model)
    openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)


def run_module(name: str, inputs: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Run what was written, in float32: output name -> array."""
    compiled = load_graph(folder / f"{name}.xml")
    results = compiled(inputs)
    return dict(zip(OUTPUTS[name], (results[item] for item in compiled.outputs), strict=False))


def _name_weights(model: Any, module: nn.Module) -> None:
    """Call constants by our names of the weights they hold, so that adapters find them when the graph is loaded.

    The converter forgets names, so bytes decide; weights that are equal to others (as in untrained networks) get none.
    """
    names: dict[bytes, list[str]] = {}
    for name, weight in module.named_parameters():
        full = name if name.startswith("text.") else f"uvit.{name}"
        names.setdefault(hashlib.sha256(weight.detach().numpy().tobytes()).digest(), []).append(full)
    for item in model.get_ops():
        if item.get_type_name() == "Constant" and item.data.ndim >= 2:
            found = names.get(hashlib.sha256(item.data.tobytes()).digest(), [])
            if len(found) == 1:
                item.set_friendly_name(found[0])


def _store_half(model: Any) -> None:
    """Store matrices and kernels as float16, with a conversion behind each, which loading does away with.

    OpenVINO's own compression takes vectors along, and among those are the frequencies of the micro-conditioning's
    sinusoids: the angles of a picture's 512 pixels would be off by up to a quarter of a radian.
    """
    openvino = import_openvino()
    for item in model.get_ops():
        if item.get_type_name() != "Constant" or item.get_element_type() != openvino.Type.f32:
            continue
        if item.data.size == max(item.shape, default=1):
            continue
        half = openvino.opset13.constant(item.data.astype(np.float16))
        half.set_friendly_name(item.get_friendly_name())
        item.output(0).replace(openvino.opset13.convert(half, "f32").output(0))


def _strip(model: Any) -> None:
    """Drop what the converter remembers of this machine: versions, arguments, paths."""
    for key in list(model.get_rt_info()):
        del model.get_rt_info()[key]

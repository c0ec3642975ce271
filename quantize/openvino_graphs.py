"""OpenVINO graphs with 8- and 4-bit weights, and with 8-bit activations where `full` asks for them.

Rounded weights lie behind a conversion and a multiplication by their scales, the form that OpenVINO's plugins take for
compressed weights. Names of weights stay, so that adapters find them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from amused_lite.bundle import Bundle
from amused_lite.quantization import SCALE, pack, quantize_blocks, quantize_rows
from amused_lite.runtimes.openvino import import_openvino

from .openvino_weights import OpenVINOWeightUse, name_of, weights_of
from .scheme import TRANSPOSED, QuantizationScheme, WeightFormat

FULL = ("unmask", "decode_image")  # modules whose activations are rounded by `full`; the others run once a picture


def quantize_modules(
    bundle: Bundle, modules: list[str], folder: Path, scheme: QuantizationScheme, scratch: Path
) -> dict[str, Any]:
    """Write the graphs of these modules, one in memory at a time; returns what the manifest should say of them."""
    openvino = import_openvino()
    core, extra, samples = openvino.Core(), {}, None
    if scheme.options.method == "full":
        from .calibration import record_samples

        samples = record_samples(bundle, scheme.options.prompts, scratch / "samples")
        extra = {"calibration": samples.record()}
    for name in modules:
        model = core.read_model(bundle.path(f"{name}.xml"))
        if samples is not None and name in FULL:
            from .openvino_full import quantize_fully

            model = quantize_fully(name, model, samples, scheme)
        round_weights(name, model, scheme)
        openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
        del model
    return extra


def round_weights(module: str, model: Any, scheme: QuantizationScheme) -> None:
    """Round, in place, what the scheme says."""
    for use in list(weights_of(model)):
        form = scheme.format_of(module, name_of(use.constant), use.kind, tuple(use.constant.shape))
        if form is not None:
            _replace(use, form)


def _replace(use: OpenVINOWeightUse, form: WeightFormat) -> None:
    openvino = import_openvino()
    ops, name = openvino.opset13, use.constant.get_friendly_name()
    weight = np.asarray(use.constant.data, np.float32)
    if form.block:
        rows = len(weight)
        integers, scale = quantize_blocks(weight.reshape(rows, -1), *form)
        scale = scale[..., None]
    else:
        axis = 1 if use.kind == TRANSPOSED else 0
        integers, scale = quantize_rows(weight, tuple(i for i in range(weight.ndim) if i != axis))
    if form.bits == 4:  # OpenVINO wants two's complement in each half of a byte
        halves = np.ascontiguousarray(pack(integers, 4) ^ 0x88)
        packed = openvino.Tensor(halves, list(integers.shape), openvino.Type.i4)
        stored = openvino.op.Constant(packed, shared_memory=False)  # `halves` goes with this call
    else:
        stored = ops.constant(integers)
    factor = ops.constant(scale)
    stored.set_friendly_name(name)
    factor.set_friendly_name(name + SCALE)
    wide = ops.multiply(ops.convert(stored, "f16"), factor)
    if form.block:
        wide = ops.reshape(wide, np.array(weight.shape, np.int64), special_zero=False)
    use.output.replace(ops.convert(wide, "f32").output(0))

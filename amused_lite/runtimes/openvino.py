"""OpenVINO: runs a bundle's modules on Intel's processors and accelerators. Knows no torch."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amused_lite.adapters.loading import changed_weights_of_module, check_mergeable
from amused_lite.adapters.lora import WeightedAdapter, merge_weight
from amused_lite.bundle import Bundle, check_inputs
from amused_lite.quantization import SCALE, requantize
from amused_lite.runtimes.graphs import Arrays, GraphRuntime, ModuleCall
from amused_lite.system.extras import require_extra
from amused_lite.system.signals import keeping_signal_stack

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}  # and "auto", which leaves it to OpenVINO
_DTYPES = {"i32": "int32", "f32": "float32"}


def import_openvino() -> Any:
    """The library, without its report to its makers that it was imported, which it sends unasked.

    Raises:
        MissingExtraError: it is not installed.
    """
    require_extra("openvino", "OpenVINO", "openvino")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's own word for "not there"
    import openvino

    return openvino


def load_graph(
    path: Path,
    threads: int | None = None,
    precision: str = "float32",
    cache: Path | None = None,
    device: str = "CPU",
    weights: Callable[[str, np.ndarray], np.ndarray] | None = None,
) -> Any:
    """A graph, compiled for a device; `weights` may give other values for a weight, from its name and its values.

    Raises:
        ValueError: the precision is unknown, or OpenVINO cannot load the graph.
        MissingExtraError: OpenVINO is not installed.
    """
    if precision not in (*PRECISIONS, "auto"):
        raise ValueError(f"precision {precision!r} is unknown; choose one of {', '.join((*PRECISIONS, 'auto'))}")
    openvino = import_openvino()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision != "auto":
        settings["INFERENCE_PRECISION_HINT"] = PRECISIONS[precision]
    if precision == "float32":
        settings["EXECUTION_MODE_HINT"] = "ACCURACY"
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    if cache is not None:
        settings["CACHE_DIR"] = str(cache)
    core = openvino.Core()
    try:
        model = core.read_model(path)
        if weights is not None:
            _replace_weights(model, weights)
        with keeping_signal_stack():
            return core.compile_model(model, device, settings)
    except RuntimeError as error:
        reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise ValueError(f"{path}: OpenVINO cannot load it ({reason}); export the bundle again") from error


def weight_name(constant: str) -> str:
    """A weight's name as the other formats have it, from that of a graph's constant."""
    return constant.replace("uvit.vqgan.", "vqgan.")


def _replace_weights(model: Any, weights: Callable[[str, np.ndarray], np.ndarray]) -> None:
    openvino = import_openvino()
    constants = {item.get_friendly_name(): item for item in model.get_ops() if item.get_type_name() == "Constant"}
    for name, item in constants.items():
        if not name.endswith(".weight"):
            continue
        if name + SCALE in constants:
            _replace_rounded(weight_name(name), item, constants[name + SCALE], weights)
            continue
        value = weights(weight_name(name), item.data)
        if value is not item.data:
            item.output(0).replace(openvino.opset13.constant(value).output(0))


def _replace_rounded(name: str, item: Any, factor: Any, weights: Callable[[str, np.ndarray], np.ndarray]) -> None:
    """The same for a weight that `quantize` rounded: widened, changed, and rounded again with new scales."""
    openvino, scale, change = import_openvino(), np.array(factor.data), partial(weights, name)
    if item.get_element_type() == openvino.Type.i4:
        rows, blocks, block = item.shape
        halves = np.frombuffer(np.ascontiguousarray(item.data).tobytes(), np.uint8).reshape(rows, blocks, block // 2)
        stored = halves ^ 0x88  # to our packed form: its integers are signed, ours have 8 added
        integers, new = requantize(stored, scale[..., 0], change, 4)
        packed = openvino.Tensor(np.ascontiguousarray(integers ^ 0x88), list(item.shape), openvino.Type.i4)
        rounded, new = openvino.op.Constant(packed, shared_memory=False), new[..., None]
    else:
        stored = item.data
        integers, new = requantize(stored, scale, change)
        rounded = openvino.opset13.constant(integers)
    if integers is not stored:
        item.output(0).replace(rounded.output(0))
        factor.output(0).replace(openvino.opset13.constant(new).output(0))


class OpenVINORuntime(GraphRuntime):
    """A bundle on OpenVINO."""

    name = "openvino"

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        precision: str = "float32",
        cache: str | Path | None = None,
        device: str = "CPU",
        adapters: Sequence[WeightedAdapter] = (),
    ) -> None:
        """Prepare, and load nothing yet.

        Args:
            bundle: exported for the target "openvino".
            threads: processor threads; None leaves the choice to OpenVINO.
            precision: what it computes in. "float32" draws the tokens that torch draws; "bfloat16", "float16" or "auto"
                are faster where the processor has them, and draw a few others.
            cache: a folder for compiled modules, which load faster the next time.
            device: OpenVINO's name for a processor: "CPU", "GPU", "NPU" or "AUTO".
            adapters: merged into the weights while modules load; `cache` is then of no use and left alone.

        Raises:
            ValueError: the precision is unknown, or an adapter cannot be merged.
            MissingExtraError: OpenVINO is not installed.
        """
        super().__init__(bundle)
        if precision != "float32":
            self.name = f"openvino:{precision}"
            self.first_step = self.first_step and "whole"  # guidance would magnify what halves are rounded by
        import_openvino()
        if precision not in (*PRECISIONS, "auto"):
            raise ValueError(f"precision {precision!r} is unknown; choose one of {', '.join((*PRECISIONS, 'auto'))}")
        check_mergeable(adapters, self.name)
        if adapters and bundle.manifest.options.get("quantization", {}).get("method") == "full":
            remedy = "export the model with --adapter and quantize that, or use a bundle with --method weights"
            raise ValueError(f"{bundle.folder} has ranges found for its own weights and takes no adapters; {remedy}")
        self._adapters, self.device = adapters, device.lower()
        self._settings = (threads, precision, None if cache is None or adapters else Path(cache), device)

    def _load(self, module: str) -> ModuleCall:
        path = self._bundle.path(f"{module}.xml")
        self._bundle.path(f"{module}.bin")
        missing = set(changed_weights_of_module(module, self._adapters))

        def weights(name: str, value: np.ndarray) -> np.ndarray:
            missing.discard(name)
            return merge_weight(name, value, self._adapters)

        compiled = load_graph(path, *self._settings, weights if missing else None)
        if missing:
            remedy = "export it again with this version, or with --adapter"
            raise ValueError(f"{path} does not name its weight {min(missing)}, which an adapter changes; {remedy}")
        check_inputs(self._bundle.manifest, module, _inputs(compiled), str(path))

        def run(inputs: Arrays, outputs: Sequence[str]) -> Sequence[np.ndarray]:
            results = compiled(inputs)
            return [results[name] for name in outputs]

        return run


def _inputs(compiled: Any) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """What a compiled graph takes, as `check_inputs` wants it: input name -> (dtype, shape)."""
    found = {}
    for item in compiled.inputs:
        kind = item.get_element_type().get_type_name()
        shape = tuple(axis.get_length() if axis.is_static else "?" for axis in item.get_partial_shape())
        found[item.get_any_name()] = (_DTYPES.get(kind, kind), shape)
    return found

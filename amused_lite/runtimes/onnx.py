"""ONNX Runtime: runs a bundle's modules on the processor or what else its installation drives. Knows no torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Its wheels report sessions to its makers over the network and keep files for that in the user's cache, unless told
# not to before they are imported. Whoever wants that may set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from amused_lite.adapters.loading import check_mergeable, merged_weights
from amused_lite.adapters.lora import WeightedAdapter
from amused_lite.bundle import QUANTIZED, WEIGHTS, Bundle, check_inputs
from amused_lite.runtimes.graphs import Arrays, GraphRuntime, ModuleCall
from amused_lite.system.memory import allocate_for, let_go

_FATAL_ONLY = 4  # ONNX Runtime's log level: its errors come as exceptions, and need no log in colours beside them
_DTYPES = {"tensor(int32)": "int32", "tensor(float)": "float32"}
_CPU = "CPUExecutionProvider"
_LARGE = 256 * 2**20  # bytes of weights, from which on memory is worth a few hundredths of the time


def usable_threads() -> int:
    """Processor cores this process may use, where the system restricts them; 0 leaves the choice to the engine."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        return allowed if allowed < (os.cpu_count() or 1) else 0
    return 0


def load_session(
    path: Path,
    threads: int = 0,
    providers: Sequence[str] = (_CPU,),
    weights: Arrays | None = None,
    arena: bool = True,
) -> onnxruntime.InferenceSession:
    """A graph, ready to run; `weights` stand in for those of the same names in its weights file.

    Without an `arena` memory that is freed is not kept for the next run.

    Raises:
        ValueError: ONNX Runtime cannot load it.
    """
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL_ONLY
    # Threads that wait sleep: spinning ones took 15 s instead of 9 for a picture on a machine busy with other work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Products with rounded weights keep float activations, unless a graph itself says otherwise.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    if not arena:
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    if weights:  # taken over before anything is folded, and copied; `add_initializer` would come too late
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except MemoryError:
        raise
    except Exception as error:
        raise _refused(path, "load", error) from error


def _refused(path: Path, what: str, error: Exception) -> ValueError:
    """What ONNX Runtime said, whose own exceptions share no base but Exception, as ours."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
    return ValueError(f"{path}: ONNX Runtime cannot {what} it ({reason}); export the bundle again")


class OnnxRuntime(GraphRuntime):
    """A bundle on ONNX Runtime."""

    name = "onnx"

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        providers: Sequence[str] = (_CPU,),
        adapters: Sequence[WeightedAdapter] = (),
    ) -> None:
        """Prepare, and load nothing yet.

        Args:
            bundle: exported for the target "onnx".
            threads: processor threads for one operation; None uses all that the system allows.
            providers: ONNX Runtime's execution providers in order of preference, where its installation has others.
            adapters: merged into the weights while modules load.

        Raises:
            ValueError: this installation of ONNX Runtime has no such provider, or an adapter cannot be merged.
        """
        super().__init__(bundle)
        check_mergeable(adapters, self.name)
        self._adapters = adapters
        files = bundle.manifest.files
        self._weights = [name for name in (WEIGHTS, QUANTIZED) if name in files]
        self._large = sum(files[name].size for name in self._weights) > _LARGE
        self._threads = usable_threads() if threads is None else threads
        self._providers, self.device = providers, providers[0].removesuffix("ExecutionProvider").lower()
        available = onnxruntime.get_available_providers()
        if missing := [name for name in providers if name not in available]:
            raise ValueError(f"ONNX Runtime has no {missing[0]} here; choose from {', '.join(available)}")

    def _before(self, module: str) -> None:
        if self._large:
            allocate_for(steps=module == "unmask")
            for name in self._weights:
                let_go(self._bundle.path(name))

    def _load(self, module: str) -> ModuleCall:
        path = self._bundle.path(f"{module}.onnx")
        merged = merged_weights(self._bundle, module, self._adapters)
        session = load_session(path, self._threads, self._providers, merged, arena=not self._large)
        found = {
            item.name: (_DTYPES.get(str(item.type), str(item.type)), tuple(item.shape)) for item in session.get_inputs()
        }
        check_inputs(self._bundle.manifest, module, found, str(path))
        only_what_is_asked = onnxruntime.RunOptions()
        only_what_is_asked.only_execute_path_to_fetches = True

        def run(inputs: Arrays, outputs: Sequence[str]) -> Sequence[np.ndarray]:
            try:
                results: Any = session.run(list(outputs), inputs, only_what_is_asked)
            except MemoryError:
                raise
            except Exception as error:
                raise _refused(path, "run", error) from error
            return results

        return run

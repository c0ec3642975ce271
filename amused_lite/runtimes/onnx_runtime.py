"""ONNX Runtime: runs a bundle's modules on the processor. Knows no torch."""

import os
from typing import Any

import numpy as np
import onnxruntime

from amused_lite.bundle import MODULES, Bundle, check_inputs
from amused_lite.conditioning import Conditioning
from amused_lite.runtimes.base import (
    StepControls,
    StepNoise,
    check_pixels,
    check_prompt,
    check_step,
    check_tokens,
)

_ERRORS_ONLY = 3  # ONNX Runtime's log level


def usable_threads() -> int:
    """Processor cores this process may use, where the system restricts them; 0 leaves the choice to the engine."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        return allowed if allowed < (os.cpu_count() or 1) else 0
    return 0


class OnnxRuntime:
    """A bundle on ONNX Runtime. Each module is loaded at its first call."""

    name = "onnx"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """threads: processor threads for one operation; None uses all that the system allows."""
        self.config = bundle.config
        self._bundle = bundle
        self._threads = usable_threads() if threads is None else threads
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        onnxruntime.set_default_logger_severity(_ERRORS_ONLY)

    def encode_prompt(self, text_ids: np.ndarray, micro_conditioning: np.ndarray) -> Conditioning:
        """See `Runtime`."""
        check_prompt(self.config, text_ids, micro_conditioning)
        rows = [
            {"text_ids": text_ids[i : i + 1], "micro_conditioning": micro_conditioning[i : i + 1]}
            for i in range(len(text_ids))
        ]
        return Conditioning(*self._run("encode_prompt", rows))

    def unmask(
        self, tokens: np.ndarray, conditioning: Conditioning, controls: StepControls, noise: StepNoise
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Runtime`."""
        check_step(self.config, tokens, conditioning, controls, noise)
        count = len(tokens)
        scalars = {name: np.array([getattr(controls, name)], np.float32) for name in StepControls._fields[:3]}
        rows = [
            {
                "tokens": tokens[i : i + 1],
                **{name: array[[i, count + i]] for name, array in conditioning._asdict().items()},
                **scalars,
                "num_masked": controls.num_masked[i : i + 1],
                **{name: array[i : i + 1] for name, array in noise._asdict().items()},
            }
            for i in range(count)
        ]
        next_tokens, guess = self._run("unmask", rows)
        return next_tokens, guess

    def decode_image(self, tokens: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_tokens(self.config, tokens)
        return self._run("decode_image", [{"tokens": row[None]} for row in tokens])[0]

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_pixels(self.config, pixels)
        return self._run("encode_image", [{"pixels": row[None]} for row in pixels])[0]

    def release(self, module: str) -> None:
        """See `Runtime`.

        Raises:
            ValueError: there is no such module.
        """
        if module not in MODULES:
            raise ValueError(f"no module {module!r} to release; expected one of {', '.join(MODULES)}")
        self._sessions.pop(module, None)

    def _run(self, module: str, rows: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
        """The graphs take one picture, so that none depends on its neighbours; rows run one after the other."""
        session = self._session(module)
        outputs: list[Any] = [session.run(None, row) for row in rows]
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]

    def _session(self, module: str) -> onnxruntime.InferenceSession:
        if module in self._sessions:
            return self._sessions[module]
        path = self._bundle.path(f"{module}.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = _ERRORS_ONLY
        # Threads that wait sleep: spinning ones took 15 s instead of 9 for a picture on a machine busy with other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except MemoryError:
            raise
        except Exception as error:  # ONNX Runtime's own exceptions share no other base
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: ONNX Runtime cannot load it ({reason}); export the bundle again") from error
        found = {
            item.name: (_DTYPES.get(str(item.type), str(item.type)), tuple(item.shape)) for item in session.get_inputs()
        }
        check_inputs(self._bundle.manifest, module, found, str(path))
        self._sessions[module] = session
        return session


_DTYPES = {"tensor(int32)": "int32", "tensor(float)": "float32"}

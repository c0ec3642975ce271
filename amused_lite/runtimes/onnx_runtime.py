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
    check_prediction,
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
        rows = [
            {
                **self._prediction_inputs(row, tokens, conditioning, controls.guidance_scale),
                "token_temperature": np.array([controls.token_temperature], np.float32),
                "mask_temperature": np.array([controls.mask_temperature], np.float32),
                "num_masked": controls.num_masked[row : row + 1],
                **{name: array[row : row + 1] for name, array in noise._asdict().items()},
            }
            for row in range(len(tokens))
        ]
        next_tokens, guess = self._run("unmask", rows, ["next_tokens", "guess"])
        return next_tokens, guess

    def predict(self, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float) -> np.ndarray:
        """See `Runtime`. The same graph as `unmask`, run up to the law; what only the draw needs is fed as zeros."""
        check_prediction(self.config, tokens, conditioning, guidance_scale)
        count, codes = tokens.shape[1], self.config.uvit.codebook_size
        unused = {
            "token_temperature": np.ones(1, np.float32),
            "mask_temperature": np.zeros(1, np.float32),
            "num_masked": np.zeros(1, np.int32),
            "token_noise": np.zeros((1, count, codes), np.float32),
            "order_noise": np.zeros((1, count), np.float32),
        }
        rows = [
            {**self._prediction_inputs(row, tokens, conditioning, guidance_scale), **unused}
            for row in range(len(tokens))
        ]
        return self._run("unmask", rows, ["log_probs"])[0]

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

    @staticmethod
    def _prediction_inputs(
        row: int, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float
    ) -> dict[str, np.ndarray]:
        """One picture's part: its own row of the conditioning, or its (negative, prompt) pair."""
        rows = list(range(row, len(conditioning.block_text), len(tokens)))
        return {
            "tokens": tokens[row : row + 1],
            **{name: array[rows] for name, array in conditioning._asdict().items()},
            "guidance_scale": np.array([guidance_scale], np.float32),
        }

    def _run(
        self, module: str, rows: list[dict[str, np.ndarray]], outputs: list[str] | None = None
    ) -> list[np.ndarray]:
        """The graphs take one picture, so that none depends on its neighbours; rows run one after the other."""
        session = self._session(module)
        only_what_is_asked = onnxruntime.RunOptions()
        only_what_is_asked.only_execute_path_to_fetches = True
        results: list[Any] = [session.run(outputs, row, only_what_is_asked) for row in rows]
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]

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

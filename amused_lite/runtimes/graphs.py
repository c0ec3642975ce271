"""What the engines that run a bundle's exported modules share: the protocol, one picture at a time. Knows no engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from amused_lite.bundle import MODULES, RANKER_MODULES, Bundle, check_module
from amused_lite.conditioning import Conditioning
from amused_lite.runtimes.base import (
    StepControls,
    StepNoise,
    check_embedding,
    check_pixels,
    check_prediction,
    check_prompt,
    check_step,
    check_tokens,
)

OUTPUTS = {  # of each module, in this order; graphs cannot give an output the name of an input
    "encode_prompt": Conditioning._fields,
    "unmask": ("next_tokens", "guess", "log_probs"),
    "decode_image": ("image",),
    "encode_image": ("image_tokens",),
    "embed_text": ("text_vector",),
    "embed_image": ("image_vector",),
}
Arrays = dict[str, np.ndarray]
ModuleCall = Callable[
    [Arrays, Sequence[str]], Sequence[np.ndarray]
]  # a loaded module: (inputs, names of outputs) -> outputs


class GraphRuntime(ABC):
    """A bundle on an engine, which subclasses name and load modules for. Each module is loaded at its first call.

    Pictures of a batch run one after the other, so that none depends on its neighbours.
    """

    name = ""
    device = "cpu"

    def __init__(self, bundle: Bundle) -> None:
        self.config = bundle.config
        self._bundle = bundle
        self._loaded: dict[str, ModuleCall] = {}
        self._last = ""  # module that ran
        self.first_step = "halves" if bundle.manifest.options.get("log_probs", True) else ""

    @abstractmethod
    def _load(self, module: str) -> ModuleCall:
        """Read a module and check that its inputs are those of the manifest."""

    def encode_prompt(self, text_ids: np.ndarray, micro_conditioning: np.ndarray) -> Conditioning:
        """See `Runtime`."""
        check_prompt(self.config, text_ids, micro_conditioning)
        rows = [
            {"text_ids": text_ids[i : i + 1], "micro_conditioning": micro_conditioning[i : i + 1]}
            for i in range(len(text_ids))
        ]
        return Conditioning(*self._run("encode_prompt", rows, Conditioning._fields))

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
        next_tokens, sampled_tokens = self._run("unmask", rows, ("next_tokens", "guess"))
        return next_tokens, sampled_tokens

    def predict(self, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float) -> np.ndarray:
        """See `Runtime`. The same graph as `unmask`; what only the draw needs is fed as zeros.

        Raises:
            ValueError: the bundle was exported without this output.
        """
        check_prediction(self.config, tokens, conditioning, guidance_scale)
        if not self._bundle.manifest.options.get("log_probs", True):
            remedy = "export it again without --no-log-probs"
            raise ValueError(f"{self._bundle.folder} gives no log_probs, which this needs; {remedy}")
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
        return self._run("unmask", rows, ("log_probs",))[0]

    def decode_image(self, tokens: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_tokens(self.config, tokens)
        return self._run("decode_image", [{"tokens": row[None]} for row in tokens], ("image",))[0]

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_pixels(self.config, pixels)
        return self._run("encode_image", [{"pixels": row[None]} for row in pixels], ("image_tokens",))[0]

    def embed_text(self, text_ids: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_embedding(self.config, text_ids=text_ids)
        return self._run("embed_text", [{"text_ids": row[None]} for row in text_ids], ("text_vector",))[0]

    def embed_image(self, pixels: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_embedding(self.config, pixels=pixels)
        return self._run("embed_image", [{"pixels": row[None]} for row in pixels], ("image_vector",))[0]

    def release(self, module: str) -> None:
        """See `Runtime`.

        Raises:
            ValueError: there is no such module.
        """
        known = (*MODULES, *RANKER_MODULES)
        if module not in known:
            raise ValueError(f"no module {module!r} to release; expected one of {', '.join(known)}")
        self._loaded.pop(module, None)

    def _before(self, module: str) -> None:  # noqa: B027  # most engines have nothing to do
        """Another module than before is about to run; what the last one mapped may go."""

    def _prediction_inputs(
        self, row: int, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float
    ) -> Arrays:
        """One picture's part: its own row of the conditioning, or its (negative, prompt) pair.

        A graph that was fixed at two rows gets the same one twice: guided away from itself, a prompt stays as it is.
        """
        rows = list(range(row, len(conditioning.block_text), len(tokens)))
        _, shape = self._bundle.manifest.inputs.get("unmask", {}).get("block_text", ("", []))
        if shape[:1] == [2] and len(rows) == 1:
            rows *= 2
        return {
            "tokens": tokens[row : row + 1],
            **{name: array[rows] for name, array in conditioning._asdict().items()},
            "guidance_scale": np.array([guidance_scale], np.float32),
        }

    def _run(self, module: str, rows: list[Arrays], outputs: Sequence[str]) -> list[np.ndarray]:
        if module not in self._loaded:
            check_module(self._bundle, module)
            self._loaded[module] = self._load(module)
        if self._last != module:
            self._before(module)
        self._last, run = module, self._loaded[module]
        results = [run(row, outputs) for row in rows]
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]

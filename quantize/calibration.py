"""Calibration data: module inputs recorded while the float model draws, kept on disk, read one at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amused_lite.bundle import TOKENIZER, Bundle, ModuleInputs
from amused_lite.conditioning import Conditioning, stack_pair
from amused_lite.evaluation.prompts import prompts_for
from amused_lite.runtimes.open import open_engine
from amused_lite.sampling.loop import unmask_tokens
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.tokenizer import Tokenizer

STEPS = 12
KEPT = 4  # steps of each picture that become samples, evenly from the first to the last


class CalibrationSamples(NamedTuple):
    """Recorded pictures in a folder: for each, `pair-N.npz`, and `tokens-N.npy` with the state before each kept step
    and the finished tokens."""

    folder: Path
    prompts: list[str]
    specs: dict[str, ModuleInputs]  # the manifest's
    guidance_scale: float

    def of(self, module: str) -> Iterator[dict[str, np.ndarray]]:
        """Inputs of `unmask` or `decode_image`. Noise is zeros: only the sampler's tail reads it."""
        for number in range(len(self.prompts)):
            states = np.load(self.folder / f"tokens-{number}.npy", allow_pickle=False)
            if module == "decode_image":
                yield {"tokens": states[-1:]}
                continue
            with np.load(self.folder / f"pair-{number}.npz", allow_pickle=False) as file:
                pair = {name: file[name] for name in Conditioning._fields}
            for state in states[:-1]:
                yield {**self._idle(module), "tokens": state[None], **pair}

    def _idle(self, module: str) -> dict[str, np.ndarray]:
        idle = {
            name: np.zeros([length if isinstance(length, int) else 1 for length in shape], dtype)
            for name, (dtype, shape) in self.specs[module].items()
        }
        scale = np.array([self.guidance_scale], np.float32)
        return {**idle, "guidance_scale": scale, "token_temperature": np.ones(1, np.float32)}

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return {"prompts": self.prompts, "steps_of_each": KEPT}


def record_samples(bundle: Bundle, count: int, folder: Path) -> CalibrationSamples:
    """Draw pictures of some prompts with the float bundle, and keep what its modules were given."""
    folder.mkdir(parents=True, exist_ok=True)
    runtime, config = open_engine(bundle), bundle.config
    text = config.text
    ids = (text.context_length, text.start_token_id, text.end_token_id)
    tokenizer = Tokenizer.from_file(bundle.path(TOKENIZER), *ids)
    prompts = prompts_for(config, count)
    settings = GenerateOptions().complete(config)
    micro = settings.micro_conditioning.array()
    for number, prompt in enumerate(prompts):
        words = tokenizer.encode(["", prompt])
        pair = stack_pair(*(runtime.encode_prompt(words[row : row + 1], micro) for row in range(2)))
        np.savez(folder / f"pair-{number}.npz", **pair._asdict())
    runtime.release("encode_prompt")
    for number in range(len(prompts)):
        with np.load(folder / f"pair-{number}.npz", allow_pickle=False) as file:
            pair = Conditioning(*(file[name] for name in Conditioning._fields))
        states = [np.full(config.uvit.num_tokens, config.uvit.mask_token_id, np.int32)]
        states += [step.tokens[0] for step in unmask_tokens(runtime, pair, GenerateOptions(steps=STEPS, seed=number))]
        kept = np.linspace(0, STEPS - 1, KEPT).round().astype(int)
        np.save(folder / f"tokens-{number}.npy", np.stack([*(states[step] for step in kept), states[-1]]))
    return CalibrationSamples(folder, prompts, bundle.manifest.inputs, settings.guidance_scale)

"""The first step of a new picture, remembered: of masks alone a model predicts the same for every seed. NumPy only."""

import hashlib

import numpy as np

from amused_lite.conditioning import Conditioning
from amused_lite.runtimes.base import Runtime
from amused_lite.sampling import distribution


class FirstStep:
    """What a runtime predicts of one picture whose tokens are all masked, for the last prompt and negative prompt.

    It depends on the conditioning alone. So a prompt's prediction serves all of its seeds, and that of the negative
    prompt serves every prompt, where the runtime lets the two be computed apart (`Runtime.first_step`). Each takes
    4 N K bytes, 33 MB at 512 pixels.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._kept: dict[str, tuple[bytes, np.ndarray]] = {}  # "guided", "negative" -> key and log-probabilities

    def predict(self, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float) -> np.ndarray:
        """As `Runtime.predict`, for tokens (1, N), all masked. The result may not be written to."""
        rows = len(conditioning.block_text)
        key = _key(conditioning) + np.float64(guidance_scale).tobytes()
        if key != self._kept.get("guided", (b"",))[0]:
            if rows == 2 and self._runtime.first_step == "halves":
                log_probs = self._guide(tokens, conditioning, guidance_scale)
            else:
                log_probs = self._runtime.predict(tokens, conditioning, guidance_scale)
            log_probs.flags.writeable = False
            self._kept["guided"] = key, log_probs
        return self._kept["guided"][1]

    def _guide(self, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float) -> np.ndarray:
        negative, prompt = (Conditioning(*(array[row : row + 1] for array in conditioning)) for row in range(2))
        key = _key(negative)
        if key != self._kept.get("negative", (b"",))[0]:
            self._kept["negative"] = key, self._runtime.predict(tokens, negative, 1.0)
        prompted = self._runtime.predict(tokens, prompt, 1.0)
        return distribution.guide(prompted, prompted - self._kept["negative"][1], guidance_scale)


def _key(conditioning: Conditioning) -> bytes:
    digest = hashlib.sha256()
    for array in conditioning:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()

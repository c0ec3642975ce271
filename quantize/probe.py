"""One model in a process of its own: how long it takes and how much memory. Prints a line of JSON.

python -m amused_lite.quantize.probe MODEL RUNTIME [THREADS]
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from amused_lite.memory import peak_memory

STEPS = 4  # timed, after one that warms up
_THIS = "amused_lite.quantize.probe"


def probe(model: Path, runtime: str, threads: int | None = None) -> dict[str, float]:
    """Measure in a child process: seconds of each stage and the peak of its resident memory in MiB.

    Stages release what they no longer need, as `generate` does.

    Raises:
        ValueError: the child failed, and said why.
    """
    words = [sys.executable, "-W", "ignore", "-m", _THIS, str(model), runtime, str(threads or 0)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was stopped"])[-1]
        raise ValueError(f"{model} could not be measured: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def main(words: list[str]) -> int:
    """Draw a picture's first steps, decode it, and print the figures."""
    from amused_lite.conditioning import stack_pair
    from amused_lite.runtimes.base import StepControls, StepNoise
    from amused_lite.runtimes.open import open_model
    from amused_lite.sampling.noise import order_noise, token_noise
    from amused_lite.sampling.settings import GenerateOptions

    model, name, threads = words
    began = time.perf_counter()
    runtime, tokenizer, _ = open_model(model, name, int(threads) or None)
    config = runtime.config
    settings = GenerateOptions().complete(config)
    ids = tokenizer.encode(["", "a red star"])
    micro = settings.micro_conditioning.array()
    encoding, pair = _timed(lambda: stack_pair(*(runtime.encode_prompt(ids[i : i + 1], micro) for i in range(2))))
    loading = time.perf_counter() - began
    runtime.release("encode_prompt")
    n, k = config.uvit.num_tokens, config.uvit.codebook_size
    tokens = np.full((1, n), config.uvit.mask_token_id, np.int32)
    steps = []
    for step in range(STEPS + 1):
        masked = np.array([n - (step + 1) * n // (STEPS + 1)], np.int32)
        noise = StepNoise(token_noise(0, 0, step, n, k)[None], order_noise(0, 0, step, n)[None])
        controls = StepControls(settings.guidance_scale, settings.token_temperature, 1.0, masked)
        seconds, (tokens, _) = _timed(lambda: runtime.unmask(tokens, pair, controls, noise))  # noqa: B023  # run at once
        steps.append(seconds)
    runtime.release("unmask")
    decoding = [_timed(lambda: runtime.decode_image(tokens))[0] for _ in range(2)]
    figures = {
        "first_prompt_s": loading,
        "encode_prompt_s": encoding,
        "first_step_s": steps[0],
        "step_s": median(steps[1:]),
        "decode_s": decoding[1],
    }
    if (peak := peak_memory()) is not None:
        figures["peak_mib"] = peak / 2**20
    print(json.dumps({key: round(value, 4) for key, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The least seconds a picture could take here: a model's products at the rate of this machine's own 8-bit products.

`python -m amused_lite.apps.benchmark_floor THREADS` measures that rate in a process of its own and prints it.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from amused_lite.analysis.measure import BenchmarkCase
from amused_lite.bundle import MANIFEST, open_bundle
from amused_lite.config import ModelConfig
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import empty_part
from amused_lite.models.unmask import UnmaskStep
from amused_lite.runtimes.open import find_model, find_prepared

_ROWS, _INNER, _COLUMNS = 512, 1024, 5632  # of a published layer's largest product
_TIMES = 20


def operations(config: ModelConfig, steps: int, guided: bool) -> float:
    """Multiplications and additions in the products of a picture: `steps` steps and the decoder; the prompt's are few.

    Counted by torch's own counter over shapes, without weights.
    """
    text, rows = config.text, 2 if guided else 1
    parts: list[Any] = [empty_part(config, name) for name in ("uvit.prompt_side", "uvit.token_side", "vqgan")]
    prompt_side, unmask, decoder = parts[0], UnmaskStep(parts[1]), parts[2]
    with torch.device("meta"), torch.no_grad():
        states = torch.empty(rows, text.context_length, text.width), torch.empty(rows, text.projection_width)
        conditioning = prompt_side(*states, torch.empty(rows, 5))
        tokens = torch.zeros(1, config.uvit.num_tokens, dtype=torch.int64)
        step = _count(lambda: unmask.predict(tokens, conditioning, torch.ones(1)))
        return steps * step + _count(lambda: decoder.decode_image(tokens))


def floor(case: BenchmarkCase, rate: float) -> float:
    """Seconds of a picture of this case, were nothing computed but its products, at `rate` operations a second."""
    folder = find_prepared(case.model, case.runtime) or find_model(case.model)
    is_bundle = (folder / MANIFEST).is_file()
    config = open_bundle(folder).config if is_bundle else PublishedWeights(folder).config
    scale = config.guidance_scale if case.guidance_scale is None else case.guidance_scale
    return operations(config, case.steps, guided=scale != 1) / rate


def product_rate(threads: int | None) -> float:
    """8-bit multiplications and additions a second, of a process of its own.

    Raises:
        ValueError: it could not be measured.
    """
    command = [sys.executable, "-m", "amused_lite.apps.benchmark_floor", str(threads or 0)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"the rate of 8-bit products could not be measured: {done.stderr.strip()[-200:]}")
    return float(done.stdout)


def _count(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _measure(threads: int) -> float:
    if threads:
        torch.set_num_threads(threads)
    left = torch.randint(-127, 128, (_ROWS, _INNER), dtype=torch.int8)
    right = torch.randint(-127, 128, (_COLUMNS, _INNER), dtype=torch.int8).t()
    seconds = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        torch._int_mm(left, right)
        seconds.append(time.perf_counter() - began)
    return 2 * _ROWS * _INNER * _COLUMNS / median(seconds)


if __name__ == "__main__":
    print(_measure(int(sys.argv[1])))

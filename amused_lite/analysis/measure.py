"""A model measured in a process of its own: only then is its peak memory its own, and its first picture a first one.

measure_in_child(BenchmarkCase("tiny", "onnx"))    -> Measurement
python -m amused_lite.analysis.measure JSON        the process: a case comes in, a measurement goes out as JSON
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from amused_lite.pipeline import AmusedPipeline
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.system.memory import peak_memory, use_low_memory
from amused_lite.task import Task

LIBRARIES = ("torch", "onnxruntime", "openvino", "executorch", "coremltools", "bitsandbytes", "diffusers", "numpy")
PROMPT = "a red balloon above a blue house in a meadow"
_THIS = "amused_lite.analysis.measure"


@dataclass(frozen=True)
class BenchmarkCase:
    """What one process shall do."""

    model: str
    runtime: str  # as `open_model` takes it; for diffusers a dtype of torch
    library: str = "amused-lite"
    prompt: str = PROMPT
    steps: int = 12
    guidance_scale: float | None = None
    threads: int | None = None
    device: str = "auto"  # one of `runtimes.devices.DEVICES`
    # "fast": modules stay loaded. "released": they go after use, as in `generate`. "low": and freed memory goes back to
    # the system.
    memory: str = "fast"
    pictures: int = 1  # after the first


@dataclass(frozen=True)
class Measurement:
    """What one process did. Seconds; bytes. A picture is {total, encode, decode, steps: one for each step}."""

    opening: float
    first: float  # from before the opening to the end of the first picture
    first_picture: dict[str, Any]
    pictures: list[dict[str, Any]]  # after the first
    tokens: int  # of a picture
    runtime: str
    peak: int | None  # resident memory, where the system keeps count
    versions: dict[str, str]
    decode_again: float | None = None  # the first picture's tokens once more, where no other picture follows


class Clock:
    """Seconds since it was made, and since the last lap."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, which ends now."""
        now = time.perf_counter()
        spent, self._last = now - self._last, now
        return spent

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began


def measure_in_child(case: BenchmarkCase, worker: str = _THIS) -> Measurement:
    """Measure in a process of its own.

    worker: the module to run, which calls `answer`.

    Raises:
        ValueError: the process failed; the message is the last line it said.
    """
    command = [sys.executable, "-W", "ignore", "-m", worker, json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise ValueError(said[-1] if said else f"exit code {done.returncode}")
    return Measurement(**json.loads(done.stdout))


def measure(case: BenchmarkCase) -> dict[str, Any]:
    """Draw pictures in this process; gives the fields of `Measurement` but peak and versions."""
    if case.memory == "low":
        use_low_memory()
    since_start = Clock()
    keep = case.memory == "fast"
    amused = AmusedPipeline.open(case.model, case.runtime, case.threads, keep, device=case.device)
    opening, first, pictures = since_start.total(), 0.0, []
    for number in range(1 + case.pictures):
        prompt = f"{case.prompt}, {number}"  # a new one each time, or it would be read only once
        options = GenerateOptions(steps=case.steps, guidance_scale=case.guidance_scale, seed=number)
        task = Task(prompt, options=options)
        clock = Clock()
        amused.condition(prompt, "", options)
        encode = clock.lap()
        steps = []
        for step in amused.steps(task):
            last = step.tokens
            steps.append(clock.lap())
        amused.decode(last[0])
        pictures.append({"encode": encode, "steps": steps, "decode": clock.lap(), "total": clock.total()})
        first = first or since_start.total()
    again = Clock()
    if not case.pictures:
        amused.decode(last[0])
    return {
        "opening": opening,
        "first": first,
        "first_picture": pictures[0],
        "pictures": pictures[1:],
        "tokens": amused.runtime.config.uvit.num_tokens,
        "runtime": amused.runtime.name,
        "decode_again": None if case.pictures else again.total(),
    }


def answer(measure: Callable[[BenchmarkCase], dict[str, Any]]) -> int:
    """The process: do the case that is the first argument, as JSON, and print what `Measurement` holds."""
    case = BenchmarkCase(**json.loads(sys.argv[1]))
    real = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to stderr; the one line of JSON has stdout to itself
    result = measure(case)
    loaded = [name for name in LIBRARIES if name in sys.modules]
    result |= {"peak": peak_memory(), "versions": {name: importlib.metadata.version(name) for name in loaded}}
    os.write(real, (json.dumps(result) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(answer(measure))

"""One contender of the benchmark in a process of its own: `python -m amused_lite.apps.benchmark_worker JSON`.

Reads its task from the command line, makes pictures, and prints one line of JSON. A process of its own, because only
then is its peak memory its own, and because the first picture's time includes what every user waits for once.
"""

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from amused_lite.memory import peak_memory, spare_memory

LIBRARIES = ("torch", "onnxruntime", "openvino", "executorch", "coremltools", "bitsandbytes", "diffusers", "numpy")


def main() -> int:
    """Do the `benchmark.Task` that is the first argument, as JSON; print what `benchmark.Result` holds."""
    task = json.loads(sys.argv[1])
    real = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to stderr; the one line of JSON has stdout to itself
    measure = _diffusers if task["library"] == "diffusers" else _ours
    result = measure(task)
    loaded = [name for name in LIBRARIES if name in sys.modules]
    result |= {"peak": peak_memory(), "versions": {name: importlib.metadata.version(name) for name in loaded}}
    os.write(real, (json.dumps(result) + "\n").encode())
    return 0


def _ours(task: dict[str, Any]) -> dict[str, Any]:
    from amused_lite.pipeline import Amused
    from amused_lite.sampling.settings import GenerateOptions

    if task["memory"] == "low":
        spare_memory()
    began = time.perf_counter()
    amused = Amused.open(task["model"], task["runtime"], task["threads"], keep_loaded=task["memory"] == "fast")
    pictures = []
    for number in range(1 + task["pictures"]):
        prompt = f"{task['prompt']}, {number}"  # a new one each time, or it would be read only once
        options = GenerateOptions(steps=task["steps"], guidance_scale=task["guidance_scale"], seed=number)
        clock = _Clock()
        amused.condition(prompt, "", options)
        encode = clock.lap()
        steps = []
        for step in amused.steps(prompt, "", 0, options):
            last = step.tokens
            steps.append(clock.lap())
        amused.decode(last[0])
        pictures.append({"encode": encode, "steps": steps, "decode": clock.lap(), "total": clock.total()})
        if number == 0:
            first = time.perf_counter() - began
    tokens = amused.runtime.config.uvit.num_tokens
    return {"first": first, "pictures": pictures[1:], "tokens": tokens, "runtime": amused.runtime.name}


def _diffusers(task: dict[str, Any]) -> dict[str, Any]:
    """The published pipeline, which spends what is neither text tower nor decoder on its steps."""
    from amused_lite.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    import torch
    from diffusers import AmusedPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    if task["threads"]:
        torch.set_num_threads(task["threads"])
    began = time.perf_counter()
    dtype = getattr(torch, task["runtime"])
    pipeline: Any = AmusedPipeline.from_pretrained(task["model"], torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    spent = {"encode": 0.0, "decode": 0.0}
    pipeline.text_encoder.forward = _timed(pipeline.text_encoder.forward, spent, "encode")
    pipeline.vqvae.decode = _timed(pipeline.vqvae.decode, spent, "decode")
    pictures = []
    for number in range(1 + task["pictures"]):
        spent.update(encode=0.0, decode=0.0)
        clock = _Clock()
        pipeline(
            f"{task['prompt']}, {number}",
            num_inference_steps=task["steps"],
            guidance_scale=task["guidance_scale"],
            generator=torch.Generator().manual_seed(number),
        )
        total = clock.total()
        step = (total - spent["encode"] - spent["decode"]) / task["steps"]
        pictures.append({**spent, "steps": [step] * task["steps"], "total": total})
        if number == 0:
            first = time.perf_counter() - began
    tokens = pipeline.transformer.config.sample_size**2  # 32 x 32 for 512 pixels
    return {"first": first, "pictures": pictures[1:], "tokens": tokens, "runtime": task["runtime"]}


class _Clock:
    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        spent, self._last = now - self._last, now
        return spent

    def total(self) -> float:
        return time.perf_counter() - self._began


def _timed(work: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def timed(*args: Any, **options: Any) -> Any:
        clock = _Clock()
        result = work(*args, **options)
        spent[name] += clock.total()
        return result

    return timed


if __name__ == "__main__":
    sys.exit(main())

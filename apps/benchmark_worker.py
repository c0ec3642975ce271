"""diffusers measured in a process of its own: `python -m amused_lite.apps.benchmark_worker JSON`; see `measure`."""

import sys
from collections.abc import Callable
from typing import Any

from amused_lite.analysis.measure import BenchmarkCase, Clock, answer


def measure_diffusers(case: BenchmarkCase) -> dict[str, Any]:
    """The published pipeline, which spends what is neither text tower nor decoder on its steps."""
    from amused_lite.models.torchvision_shim import ensure_torchvision
    from amused_lite.runtimes.devices import choose_device

    ensure_torchvision()
    import torch
    from diffusers import AmusedPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    if case.threads:
        torch.set_num_threads(case.threads)
    since_start = Clock()
    dtype = getattr(torch, case.runtime)
    pipeline: Any = AmusedPipeline.from_pretrained(case.model, torch_dtype=dtype)
    pipeline.to(choose_device("torch", case.device)[1])
    pipeline.set_progress_bar_config(disable=True)
    opening, first = since_start.total(), 0.0
    spent = {"encode": 0.0, "decode": 0.0}
    pipeline.text_encoder.forward = _timed(pipeline.text_encoder.forward, spent, "encode")
    pipeline.vqvae.decode = _timed(pipeline.vqvae.decode, spent, "decode")
    pictures = []
    for number in range(1 + case.pictures):
        spent.update(encode=0.0, decode=0.0)
        clock = Clock()
        pipeline(
            f"{case.prompt}, {number}",
            num_inference_steps=case.steps,
            guidance_scale=case.guidance_scale,
            generator=torch.Generator().manual_seed(number),
        )
        total = clock.total()
        step = (total - spent["encode"] - spent["decode"]) / case.steps
        pictures.append({**spent, "steps": [step] * case.steps, "total": total})
        first = first or since_start.total()
    tokens = pipeline.transformer.config.sample_size**2  # 32 x 32 for 512 pixels
    return {
        "opening": opening,
        "first": first,
        "first_picture": pictures[0],
        "pictures": pictures[1:],
        "tokens": tokens,
        "runtime": case.runtime,
    }


def _timed(work: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def timed(*args: Any, **options: Any) -> Any:
        clock = Clock()
        result = work(*args, **options)
        spent[name] += clock.total()
        return result

    return timed


if __name__ == "__main__":
    sys.exit(answer(measure_diffusers))

"""The training of a style in a process of its own, so that the page never waits for it: `python -m ... SPEC.json`.

It says how it goes in lines of JSON on stdout. SIGINT lets it finish its step; what is written then is the last strip's
adapter, or nothing. The page's half, which starts and watches it, is `learning`.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from amused_lite.extras import require_extra


def main(spec_path: str) -> int:
    """Train as the file says; returns the exit code."""
    spec = json.loads(Path(spec_path).read_text(encoding="utf-8"))
    try:
        _train(spec)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        _say(state="failed", error=str(error) or type(error).__name__)
        return 2
    return 0


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _bar(items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
    for number, item in enumerate(items):
        _say(state="preparing", what=what, done=number, total=total)
        yield item


def _train(spec: dict[str, Any]) -> None:
    require_extra("torch", "training a style", "torch", "safetensors")
    if hasattr(os, "nice"):
        os.nice(5)  # the page and its pictures come first
    from dataclasses import replace

    import torch

    from amused_lite.style.config import recipe_of
    from amused_lite.style.data import StylePicture, open_picture
    from amused_lite.style.job import OtherTrainingError, make_job, work_folder
    from amused_lite.style.monitor import StyleWatch
    from amused_lite.training.base_model import Base

    _say(state="opening")
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    base = Base.open(spec["model"], spec["threads"])
    changes = {name: value for name, value in spec["recipe"].items() if value is not None}
    recipe = replace(recipe_of(base.preset), **changes)
    pictures = [StylePicture(Path(path), caption) for path, caption in spec["pictures"]]
    try:
        job = make_job(base, pictures, spec["style"], Path(spec["out"]), recipe, bar=_bar)
    except OtherTrainingError:  # left by a training that failed, of other pictures
        shutil.rmtree(work_folder(Path(spec["out"])))
        job = make_job(base, pictures, spec["style"], Path(spec["out"]), recipe, bar=_bar)
    size = base.networks.config.image_size
    watch = StyleWatch(
        base.amused,
        [job.said(prompt) for prompt in spec["prompts"]],
        [open_picture(picture.path, size) for picture in job.pictures],
        job.run.folder,
        keep=job.keep,
    )
    began, done = time.monotonic(), [0]

    def tell(*_: Any) -> None:
        done[0] += 1
        left = (time.monotonic() - began) / done[0] * (recipe.steps - done[0])
        _say(state="learning", step=done[0], steps=recipe.steps, seconds_left=left)

    def look(steps: int) -> str:
        reason = watch(steps)
        _, style, text = watch.history[-1]
        _say(state="sample", step=steps, strip=str(job.run.folder / f"samples-{steps:05d}.png"), style=style, text=text)
        return reason

    job.step.register_forward_hook(tell)
    reason = job.train(look)
    if reason is None and not watch.history:
        _say(state="cancelled")
        return
    steps = watch.best
    path = job.save(job.kept(steps))
    _say(
        state="done",
        path=str(path),
        best=steps,
        reason=reason or "stopped early",
        trigger=job.record.trigger,
        bytes=path.stat().st_size,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

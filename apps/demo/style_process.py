"""The training of a style in a process of its own, so that the page never waits for it: `python -m ... SPEC.json`.

It says how it goes in lines of JSON on stdout. SIGINT lets it finish its step; what is written then is the last strip's
adapter, or nothing. The page's half, which starts and watches it, is `learning`.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amused_lite.system.extras import require_extra

if TYPE_CHECKING:
    from amused_lite.style.session import StyleEvent


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
    from functools import partial

    import torch

    from amused_lite.style.config import train_config_of
    from amused_lite.style.data import StylePicture
    from amused_lite.style.job import OtherTrainingError, work_folder
    from amused_lite.style.session import learn
    from amused_lite.training.base_model import BaseModel

    _say(state="opening")
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    base, out = BaseModel.open(spec["model"], spec["threads"]), Path(spec["out"])
    train_config = replace(
        train_config_of(base.preset), **{k: value for k, value in spec["recipe"].items() if value is not None}
    )
    pictures = [StylePicture(Path(path), caption) for path, caption in spec["pictures"]]
    options: dict[str, Any] = {"prompts": spec["prompts"], "keep_stopped": True, "bar": _bar}
    start = partial(learn, base, pictures, spec["style"], out, train_config, _say_event, **options)
    try:
        learned = start()
    except OtherTrainingError:  # left by a training that failed, of other pictures
        shutil.rmtree(work_folder(out))
        learned = start()
    if learned is None:
        _say(state="cancelled")
        return
    _say(
        state="done",
        path=str(learned.path),
        best=learned.best,
        reason=learned.reason,
        trigger=learned.record.trigger,
        bytes=learned.path.stat().st_size,
    )


def _say_event(event: "StyleEvent") -> None:
    from amused_lite.style.session import Sampled, StepDone

    if isinstance(event, StepDone):
        _say(state="learning", step=event.done, steps=event.steps, seconds_left=event.seconds_left)
    elif isinstance(event, Sampled):
        _say(state="sample", step=event.done, strip=str(event.path), style=event.style, text=event.text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

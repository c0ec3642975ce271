"""A style from its pictures to its adapter file, for the command and the demo alike: `learn`.

A second round (`feedback`) is the same call with the pictures that were chosen.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from amused_lite.adapters.lora import AdapterRecord
from amused_lite.pipeline import check_prompts
from amused_lite.style.config import StyleTrainConfig
from amused_lite.style.data import StylePicture, open_picture
from amused_lite.style.job import StyleJob, make_job
from amused_lite.style.monitor import StyleMonitor
from amused_lite.training.base_model import BaseModel, Progress, terminal_bar


@dataclass(frozen=True)
class Prepared:
    """The training is ready; its first step comes next."""

    job: StyleJob


@dataclass(frozen=True)
class StepDone:
    """A step is done."""

    done: int
    steps: int  # of the whole training
    seconds_left: float


@dataclass(frozen=True)
class Sampled:
    """Samples were drawn and scored, see `StyleMonitor`."""

    done: int  # steps
    path: Path  # of the strip
    style: float
    text: float


StyleEvent = Prepared | StepDone | Sampled


@dataclass(frozen=True)
class Learned:
    """The adapter that was written."""

    path: Path
    record: AdapterRecord
    reason: str  # why the training ended
    best: int | None  # steps after which the samples were best, which are in the file; None: all of them


def learn(
    base: BaseModel,
    pictures: Sequence[StylePicture],
    style: str,
    out: Path,
    train_config: StyleTrainConfig,
    report: Callable[[StyleEvent], object],
    *,
    prompts: Sequence[str] = (),
    early_stop: bool = True,
    keep_stopped: bool = False,
    prior_prompts: Sequence[str] = (),
    licence: str = "",
    skip_unreadable: bool = False,
    bar: Progress = terminal_bar,
) -> Learned | None:
    """Learn a style, or go on learning it; None when it was stopped before there was something to write.

    Args:
        base: the model that learns, and the others up to `recipe`: see `make_job`.
        report: is told how it goes.
        prompts: what samples show, without words of style; none draws no samples.
        early_stop: end when samples do not improve, and write the best. False runs all steps and writes the last.
        keep_stopped: write the best samples' adapter when the user stops it; False leaves a training that goes on.
        prior_prompts: and what follows: see `make_job`.

    Raises:
        ValueError, OSError: see `make_job`; or the file cannot be written.
    """
    for prompt in prompts:
        check_prompts(prompt)
    job = make_job(base, pictures, style, out, train_config, prior_prompts, licence, skip_unreadable, bar)
    report(Prepared(job))
    monitor = _monitor(job, prompts, early_stop) if prompts else None

    def sample(done: int) -> str:
        assert monitor is not None
        reason = monitor(done)
        _, style_score, text_score = monitor.history[-1]
        report(Sampled(done, monitor.strip(done), style_score, text_score))
        return reason

    reason = job.train(sample if monitor else None, _clock(train_config.steps, report))
    sampled = bool(monitor and monitor.history)
    if reason is None and not (keep_stopped and sampled):
        return None
    best = monitor.best if monitor and sampled and early_stop else None
    path = job.save(job.kept(best) if best else job.adapter(job.done))
    return Learned(path, job.record, reason or "stopped early", best)


def _monitor(job: StyleJob, prompts: Sequence[str], early_stop: bool) -> StyleMonitor:
    size = job.base.networks.config.image_size
    return StyleMonitor(
        job.base.amused,
        [job.said(prompt) for prompt in prompts],
        [open_picture(picture.path, size) for picture in job.pictures],
        job.run.folder,
        keep=job.keep,
        patience=4 if early_stop else 0,
    )


def _clock(steps: int, report: Callable[[StyleEvent], object]) -> Callable[[int], None]:
    """Reports each step, with the time left at the mean pace of this session."""
    began, here = time.monotonic(), 0

    def tick(done: int) -> None:
        nonlocal here
        here += 1
        report(StepDone(done, steps, (time.monotonic() - began) / here * (steps - done)))

    return tick

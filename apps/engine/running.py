"""One picture of a job, step by step, while others watch. Knows no queue and no threads."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from amused_lite.analysis.trace import Trace
from amused_lite.pipeline import Painter
from amused_lite.sampling.loop import Step
from amused_lite.task import Task

from .eta import Eta
from .jobs import Job, JobResult
from .model_cache import LoadedModel


class CancelledError(Exception):
    """Raised in the middle of a picture when the running job is cancelled."""


def look_up(job: Job) -> None:
    """Raise CancelledError where someone cancelled the job."""
    if job.requested == "cancel":
        raise CancelledError


def draw(job: Job, task: Task, loaded: LoadedModel, eta: Eta, after_step: Callable[[], None]) -> JobResult:
    """The picture; from its latest sampled tokens where someone stops the job.

    Raises:
        ValueError: the task does not fit the model.
        CancelledError: someone cancelled the job.
    """
    amused = loaded.amused
    mask_token_id = amused.runtime.config.uvit.mask_token_id
    steps, paint = amused.steps(task), amused.painter(task)
    last: list[Step] = []

    def seen() -> Iterator[Step]:
        with eta.measured() as step_done:
            for step in steps:
                step_done()
                last[:] = [step]
                _report(job, paint, loaded.colours, step, eta)
                after_step()
                yield step
                look_up(job)
                if job.requested == "stop" and not (step.sampled_tokens == mask_token_id).any():
                    return

    trace = None
    if task.trace:
        trace = Trace.of(seen(), mask_token_id)
    else:
        for _ in seen():
            pass
    step = last[0]
    if step.index + 1 < step.steps:
        task = replace(task, stopped_after=step.index + 1)
    with eta.decoding():
        picture = amused.finish(task, step.picture_tokens)
    read = amused.tokenizer.count(task.prompt, task.negative_prompt)
    return JobResult(picture, trace=trace, text_tokens=read)


def _report(job: Job, paint: Painter, colours: np.ndarray | None, step: Step, eta: Eta) -> None:
    """Publish a step's progress and preview."""
    if colours is not None:
        job.paint = lambda sampled_tokens: paint(sampled_tokens, colours)
    made, count, done = len(job.results), job.request.count, step.index + 1
    job.update(
        step=done,
        steps=step.steps,
        share=(made + done / step.steps) / count,
        seconds_left=eta.left(step.steps - done, step.steps, count - made - 1),
        sampled_tokens=step.sampled_tokens[0],
    )

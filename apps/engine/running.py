"""One picture of a job, step by step, while others watch. Knows no queue and no threads."""

from collections.abc import Callable, Iterator

from amused_lite.analysis.trace import Trace
from amused_lite.sampling.loop import Step

from .drawing import Drawing, stopped, text_tokens
from .eta import Eta
from .jobs import Job, JobResult
from .model_cache import LoadedModel


class CancelledError(Exception):
    """Raised in the middle of a picture when the running job is cancelled."""


def look_up(job: Job) -> None:
    """Raise CancelledError where someone cancelled the job."""
    if job.requested == "cancel":
        raise CancelledError


def draw(job: Job, drawing: Drawing, loaded: LoadedModel, eta: Eta, after_step: Callable[[], None]) -> JobResult:
    """The picture; from its latest sampled tokens where someone stops the job.

    Raises:
        CancelledError: someone cancelled the job.
    """
    mask_token_id = loaded.amused.runtime.config.uvit.mask_token_id
    last: list[Step] = []

    def seen() -> Iterator[Step]:
        with eta.measured() as step_done:
            for step in drawing.steps:
                step_done()
                last[:] = [step]
                _report(job, drawing, loaded, step, eta)
                after_step()
                yield step
                look_up(job)
                if job.requested == "stop" and not (step.sampled_tokens == mask_token_id).any():
                    return

    trace = None
    if job.request.trace:
        trace = Trace.of(seen(), mask_token_id)
    else:
        for _ in seen():
            pass
    step = last[0]
    early = step.index + 1 < drawing.total
    with eta.decoding():
        picture = drawing.finish(step.sampled_tokens[0] if early else step.tokens[0])
    read = text_tokens(loaded.amused, picture.recipe.prompt, picture.recipe.negative_prompt)
    return JobResult(stopped(picture, step) if early else picture, trace=trace, text_tokens=read)


def _report(job: Job, drawing: Drawing, loaded: LoadedModel, step: Step, eta: Eta) -> None:
    """Publish a step's progress and preview."""
    if loaded.colours is not None:
        paint, colours = drawing.paint, loaded.colours
        job.paint = lambda sampled_tokens: paint(sampled_tokens, colours)
    done, count = len(job.results), job.request.count
    job.update(
        step=step.index + 1,
        steps=drawing.total,
        share=(done + (step.index + 1) / drawing.total) / count,
        seconds_left=eta.left(drawing.total - step.index - 1, drawing.total, count - done - 1),
        sampled_tokens=step.sampled_tokens[0],
    )

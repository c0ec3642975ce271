"""One picture of a job, step by step, while others watch. Knows no queue and no threads."""

from collections.abc import Callable, Iterator

from amused_lite.analysis.trace import Trace
from amused_lite.sampling.loop import Step

from .drawing import Drawing, stopped, text_tokens
from .eta import Pace
from .jobs import Job, Result
from .model_cache import Opened


class CancelledError(Exception):
    """Leaves the drawing of a job."""


def look_up(job: Job) -> None:
    """Raise CancelledError where someone cancelled the job."""
    if job.wish == "cancel":
        raise CancelledError


def draw(job: Job, drawing: Drawing, opened: Opened, pace: Pace, after_step: Callable[[], None]) -> Result:
    """The picture, or what its latest guess gives where someone stops the job.

    Raises:
        CancelledError: someone cancelled the job.
    """
    mask_token_id = opened.amused.runtime.config.uvit.mask_token_id
    last: list[Step] = []

    def seen() -> Iterator[Step]:
        with pace.measured() as lap:
            for step in drawing.steps:
                lap()
                last[:] = [step]
                _report(job, drawing, opened, step, pace)
                after_step()
                yield step
                look_up(job)
                if job.wish == "stop" and not (step.guess == mask_token_id).any():
                    return

    trace = None
    if job.request.look:
        trace = Trace.of(seen(), mask_token_id)
    else:
        for _ in seen():
            pass
    step = last[0]
    early = step.index + 1 < drawing.total
    with pace.finishing():
        picture = drawing.finish(step.guess[0] if early else step.tokens[0])
    read = text_tokens(opened.amused, picture.recipe.prompt, picture.recipe.negative_prompt)
    return Result(stopped(picture, step) if early else picture, trace=trace, text_tokens=read)


def _report(job: Job, drawing: Drawing, opened: Opened, step: Step, pace: Pace) -> None:
    """Tell watchers of a step."""
    if opened.colours is not None:
        paint, colours = drawing.paint, opened.colours
        job.paint = lambda guess: paint(guess, colours)
    done, count = len(job.results), job.request.count
    job.update(
        step=step.index + 1,
        steps=drawing.total,
        share=(done + (step.index + 1) / drawing.total) / count,
        seconds_left=pace.left(drawing.total - step.index - 1, drawing.total, count - done - 1),
        guess=step.guess[0],
    )

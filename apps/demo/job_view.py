"""What a job looks like on the page: a grid of pictures that form, with progress, as HTML. Knows no gradio."""

import base64
from collections.abc import Iterator
from html import escape
from io import BytesIO

from PIL import Image

from ..engine.jobs import Job, JobCancelledError, JobError, Progress
from .app_state import AppState, page_url
from .picture_filter import FilterFlag


def data_url(image: Image.Image, quality: int = 82) -> str:
    """A picture as a JPEG inside its own address: it touches no disk."""
    data = BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def keys_of(job: Job) -> list[str]:
    """The keys of a job's finished pictures."""
    return [f"{job.id}/{index}" for index in range(len(job.results))]


def show_job(app_state: AppState, job: Job, now: Progress, chosen: int = 0) -> str:
    """A job as it stands: finished pictures can be picked, the one under way forms."""
    running = not job.over
    preview = job.preview() if running else None
    cells = []
    for index in range(now.count if running else max(1, len(job.results))):
        if index < len(job.results):
            cells.append(_done(app_state, job, index, chosen, now.count))
        elif preview is not None and index == len(job.results):
            cells.append(f'<div class="cell forming"><img decoding="sync" alt="" src="{data_url(preview)}"></div>')
        else:
            cells.append('<div class="cell waiting"></div>')
    many = "many" if len(cells) > 1 else "one"
    bar = _bar(now) if running else _foot(job, now)
    grid = f'<div class="cells" role="group" aria-label="Pictures">{"".join(cells)}</div>'
    return f'<div class="stage {many}">{grid}{bar}</div>'


def _done(app_state: AppState, job: Job, index: int, chosen: int, count: int) -> str:
    recipe = job.results[index].picture.recipe
    key = f"{job.id}/{index}"
    label = escape(f"Picture {index + 1} of {count}: {recipe.prompt[:200]}", quote=True)
    picture = f'<img decoding="sync" alt="{label}" src="{page_url(key)}">'
    verdict = app_state.flagged.get(key)
    pressed = "true" if index == chosen else "false"
    if not job.over or len(job.results) == 1:  # nothing to pick among, or not yet
        return f'<div class="cell done" data-index="{index}">{veiled(picture, verdict)}</div>'
    button = f'<button type="button" class="pick" data-index="{index}" aria-pressed="{pressed}">{picture}</button>'
    return f'<div class="cell done">{veiled(button, verdict)}</div>'


def veiled(content: str, verdict: FilterFlag | None) -> str:
    """HTML behind a removable blur where the filter flagged the picture."""
    if verdict is None:
        return content
    said = escape(str(verdict))
    lift = f'<label class="lift"><input type="checkbox"> Show it. Blurred: it {said}.</label>'
    return f'<div class="veil">{lift}<div class="veiled">{content}</div></div>'


def _bar(now: Progress) -> str:
    if now.state == "queued":
        words = f"Waiting, number {now.position} in line" if now.position > 1 else "Starting"
    else:
        picture = f"Picture {now.finished + 1} of {now.count}, " if now.count > 1 else ""
        words = f"{picture}step {now.step} of {now.steps}" if now.steps else f"{picture}opening the model"
        if now.stopped:
            words = f"{picture}finishing this picture"
    left = time_left(now.seconds_left)
    label = "Progress"
    return (
        f'<div class="bar"><progress max="1" value="{now.share:.3f}" aria-label="{label}"></progress>'
        f"<span>{words}</span><span>{left}</span></div>"
    )


def _foot(job: Job, now: Progress) -> str:
    """One quiet line below pictures that are done, and what their owner should know."""
    notes = "".join(f'<p class="hint">{escape(remark)}</p>' for remark in now.remarks)
    if not job.results:
        return notes
    recipe = job.results[0].picture.recipe
    steps = f"stopped after step {recipe.stopped_after}" if recipe.stopped_after else f"{recipe.steps} steps"
    words = f"seed {recipe.seed}, {steps}, {now.seconds:.1f} s"
    return f'<p class="foot">{words}</p>{notes}'


def time_left(seconds: float | None) -> str:
    """ "3 s left", or "" where nothing is known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(0, round(seconds))} s left"
    return f"{round(seconds / 60)} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"


def message(text: str, kind: str = "error") -> str:
    """A short line instead of pictures."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<div class="stage"><p class="message {kind}"{role}>{escape(text)}</p></div>'


def follow(app_state: AppState, job: Job) -> Iterator[tuple[str, Progress]]:
    """HTML after every change of a job, the last when it is over; closing the iterator cancels the job."""
    try:
        for now in job.watch():
            if job.over:
                app_state.judge(keys_of(job))
            yield show_job(app_state, job, now), now
    finally:
        app_state.engine.cancel(job, "its page was closed")


def failure(job: Job) -> str:
    """Why a job that is over gave nothing, or ""."""
    try:
        job.outcome()
    except JobCancelledError:
        return "" if job.results else "Cancelled."
    except JobError as error:
        return f"{str(error)[:1].upper()}{str(error)[1:]}"
    return ""

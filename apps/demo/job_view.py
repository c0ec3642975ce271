"""What a job looks like on the page: a grid of pictures that form, with progress, as HTML. Knows no gradio."""

import base64
from collections.abc import Iterator
from html import escape
from io import BytesIO

from PIL import Image

from ..engine.jobs import RUNNING, Job, JobCancelledError, JobError, Progress
from .app_state import AppState, job_of, page_url
from .picture_filter import FilterFlag
from .versions import VERBS


def data_url(image: Image.Image, quality: int = 82) -> str:
    """A picture as a JPEG inside its own address: it touches no disk."""
    data = BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def keys_of(job: Job) -> list[str]:
    """The keys of a job's finished pictures."""
    return [f"{job.id}/{index}" for index in range(len(job.results))]


def show_job(app_state: AppState, job: Job, now: Progress, chosen: int = 0) -> str:
    """A job as it stands: finished pictures are picked and enlarged by a click, the one under way forms."""
    running = not job.over
    preview = job.preview() if running else None
    before = "" if running else _before(app_state, job)
    cells = []
    for index in range(now.count if running else max(1, len(job.results))):
        if index < len(job.results):
            cells.append(_done(app_state, job, index, chosen, now.count, before))
        elif preview is not None and index == len(job.results):
            cells.append(f'<div class="cell forming"><img decoding="sync" alt="" src="{data_url(preview)}"></div>')
        else:
            cells.append('<div class="cell waiting"></div>')
    many = "many" if len(cells) > 1 else "one"
    grid = f'<div class="cells" role="group" aria-label="Pictures">{"".join(cells)}</div>'
    return f'<div class="stage {many}">{grid}{_bar(now) if running else _slider(before)}</div>{_foot(job, now)}'


def _before(app_state: AppState, job: Job) -> str:
    """Where the picture is that a job was made from, or "" where the two do not lie on each other."""
    key = job.request.parent
    try:
        size = app_state.source(key).image.size if key and job.results else None
    except ValueError:  # forgotten or deleted
        return ""
    return page_url(key) if size is not None and size == job.results[0].picture.image.size else ""


def _layer(before: str) -> str:
    return f'<img class="before" decoding="sync" alt="" src="{before}">' if before else ""


def _slider(before: str) -> str:
    """How much of the picture before is seen."""
    words = "How much of the picture before is seen"
    slider = f'<input type="range" class="compare" min="0" max="100" value="0" aria-label="{words}">'
    return f'<label class="bar compare-bar"><span>Before</span>{slider}</label>' if before else ""


def _done(app_state: AppState, job: Job, index: int, chosen: int, count: int, before: str) -> str:
    prompt = job.results[index].picture.recipe.prompt
    key, large = f"{job.id}/{index}", f"large-{job.id}-"
    label = escape(f"Picture {index + 1} of {count}: {prompt[:200]}", quote=True)
    picture = f'<img decoding="sync" alt="{label}" src="{page_url(key)}">'
    verdict, pressed = app_state.flagged.get(key), "true" if index == chosen else "false"
    button = (
        f'<button type="button" class="pick" data-key="{key}" aria-pressed="{pressed}" title="Enlarge" '
        f'popovertarget="{large}{index}">{picture}{_layer(before)}</button>'
    )
    ways = "".join(
        f'<button type="button" class="{name}" data-key="{job.id}/{other}" popovertarget="{large}{other}">'
        f"{word}</button>"
        for name, other, word in (("before", index - 1, "Previous"), ("after", index + 1, "Next"))
        if 0 <= other < len(job.results)
    )
    close = f'<button type="button" popovertarget="{large}{index}" autofocus>Close</button>'
    enlarged = (
        f'<div id="{large}{index}" class="large" popover>{veiled(picture, verdict)}<nav>{ways}{close}</nav></div>'
    )
    return f'<div class="cell done">{veiled(button, verdict)}{enlarged}</div>'


def as_tree(jobs: list[Job]) -> list[tuple[Job, int]]:
    """Jobs with how deep each lies: what was made from a picture follows it, the family with the latest comes first."""
    order = {job.id: number for number, job in enumerate(jobs)}
    children: dict[str, list[Job]] = {}
    for job in jobs:
        parent = job_of(job.request.parent)
        children.setdefault(parent if order.get(parent, len(jobs)) < order[job.id] else "", []).append(job)

    def family(job: Job, depth: int) -> list[tuple[Job, int]]:
        return [(job, depth), *(one for child in children.get(job.id, ()) for one in family(child, depth + 1))]

    families = [family(root, 0) for root in children.get("", ())]
    families.sort(key=lambda members: max(order[job.id] for job, _ in members), reverse=True)
    return [one for members in families for one in members]


def _title(job: Job) -> str:
    """What was asked for."""
    prompt = job.results[0].picture.recipe.prompt if job.results else job.request.prompt or "one of these"
    verb = VERBS.get(job.request.operation)
    return f"{verb}: {prompt}"[:200] if verb else prompt[:200]


def show_strip(jobs: list[Job], shown: str) -> str:
    """All jobs of a visitor in a row, as a tree: what is done, what is drawn, and what waits its turn."""
    tiles = []
    for job, depth in as_tree(jobs):
        words = escape(_title(job), quote=True)
        pressed = "true" if job.id == shown else "false"
        child = " child" if depth else ""
        made_from = f'<span class="sr">, made from one before, level {depth}</span>' if depth else ""
        button = f'<button type="button" data-key="{job.id}/0" aria-pressed="{pressed}" title="{words}"'
        if job.results and job.over:
            many = f'<span class="many">{len(job.results)}</span>' if len(job.results) > 1 else ""
            picture = f'<img alt="{words}" src="small/{job.id}/0.jpeg">'
            tiles.append(f'<div class="tile{child}">{button}>{picture}{many}{made_from}</button></div>')
        elif not job.over:
            state, said = ("drawn", "is drawn") if job.state == RUNNING else ("waits", "waits")
            names = f'class="end" data-cancel="{job.id}" aria-label="Cancel: {words}"'
            end = f'<button type="button" {names}>&times;</button>'
            inside = f'<span class="words">{words}</span><span class="sr">, {said}</span>'
            tiles.append(f'<div class="tile {state}{child}">{button}>{inside}{made_from}</button>{end}</div>')
    return f'<div class="strip-tiles" role="group" aria-label="Your pictures">{"".join(tiles)}</div>' if tiles else ""


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
    if not job.results or not job.over:
        return f'<div class="feet">{notes}</div>'
    recipe = job.results[0].picture.recipe
    steps = f"stopped after step {recipe.stopped_after}" if recipe.stopped_after else f"{recipe.steps} steps"
    words = f"seed {recipe.seed}, {steps}, {now.seconds:.1f} s"
    parent = escape(job.request.parent, quote=True) if job_of(job.request.parent) else ""
    back = f' <button type="button" class="back" data-key="{parent}">What it was made from</button>' if parent else ""
    return f'<div class="feet">{notes}<p class="foot">{words}{back}</p></div>'


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
    """HTML after every change of a job, the last when it is over; closing the iterator cancels the job
    of a visitor who could not find it again."""
    try:
        for now in job.watch():
            if job.over:
                app_state.judge(keys_of(job))
            yield show_job(app_state, job, now), now
    finally:
        if job.owner is None:  # else its visitor finds it again
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

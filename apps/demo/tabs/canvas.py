"""The canvas: what a visitor's latest drawing looks like now, what can be done with it, and a strip of all others.

The page asks every moment what there is to see, and everything follows from the jobs that the engine remembers: so a
page that was loaded again, or a second one, or one that slept, shows the same.
"""

from typing import Any, NamedTuple

import gradio as gr

from ...engine.jobs import CANCELLED, DONE, RUNNING, Job, Progress
from .. import job_view
from ..app_state import AppState, page_url
from ..routes import LARGER
from .events import said

DRAFT_STEPS = 4
_SOON, _LATER = 0.3, 4.0  # s between looks, while something is drawn and while not
_MOST_SHOWN = 24  # jobs in the strip
_WELCOME = "Say what you would like to see. Pictures are made on this machine and stay here."
_SCRIPT = """
element.addEventListener('click', (event) => {
  const { key, cancel } = event.target.closest('[data-key], [data-cancel]')?.dataset ?? {};
  if (key) {
    event.target.closest('[popover]')?.hidePopover();  // or the next one would lie in it
    element.querySelectorAll('[aria-pressed]').forEach((one) => one.ariaPressed = one.dataset.key === key);
  }
  if (key || cancel) trigger('click', cancel ? { cancel } : { key });
});
element.addEventListener('keydown', (event) => {
  const way = { ArrowLeft: '.before', ArrowRight: '.after' }[event.key];
  if (way) event.target.closest('[popover]')?.querySelector(way)?.click();
});
"""


class Shown(NamedTuple):
    """What a page shows, as it remembers it between two looks."""

    job: str = ""  # id
    stage: str = ""  # as what
    strip: str = ""

    def is_strip_of(self, other: "Shown") -> bool:
        return (self.job, self.strip) == (other.job, other.strip)


_NOTHING = Shown()


class CanvasColumn:
    """Its components; `look` is what every handler ends with, whose outputs are `outputs`."""

    def __init__(
        self, app_state: AppState, visitor: gr.BrowserState, stop: gr.Button, cancel: gr.Button, seed: gr.Number
    ) -> None:
        """`stop`, `cancel` and `seed` lie elsewhere on the page, and are those of what is on the canvas."""
        self.app_state, self._visitor = app_state, visitor
        self.mine = gr.State([])  # ids of what this page asked for
        self.wanted = gr.State("")  # id of the job that was chosen in the strip; "" follows what is drawn
        self.chosen = gr.State("")  # key of the picked picture
        self._seen = gr.State(_NOTHING)
        self._stop, self._cancel, self._seed = stop, cancel, seed
        self._said = gr.HTML("", elem_classes="sr", elem_id="said")
        self.stage = gr.HTML(job_view.message(_WELCOME, "calm"), js_on_load=_SCRIPT, elem_id="stage", padding=False)
        with gr.Row(elem_classes="row-tight edge", elem_id="next"):
            self.finish = gr.Button("Finish this draft", variant="primary", visible=False, elem_id="finish")
            self.subtle = gr.Button("Vary subtly", interactive=False, elem_id="subtle")
            self.strong = gr.Button("Vary strongly", interactive=False, elem_id="strong")
            self.reroll = gr.Button("Redo weak spots", interactive=False, elem_id="reroll")
            self.edit = gr.Button("Edit", interactive=False, elem_id="to-edit")
            self.look_inside = gr.Button("Look inside", interactive=False, elem_id="to-look")
            self.upload = gr.UploadButton("Open a picture", file_types=["image"], elem_id="open-picture")
            self._save = gr.HTML("", elem_id="save", padding=False)
        self.strip = gr.HTML("", js_on_load=_SCRIPT, elem_id="strip", padding=False)
        self._timer = gr.Timer(_LATER)
        self._connect()

    @property
    def known(self) -> list[Any]:
        """Inputs of `look`."""
        return [self._visitor, self.mine, self.wanted, self.chosen, self._seen]

    @property
    def outputs(self) -> list[Any]:
        """Outputs of `look`."""
        actions = [self.finish, self.subtle, self.strong, self.reroll, self.edit, self.look_inside, self._save]
        shown = [self.stage, self.strip, self._said, self._stop, self._cancel, self.chosen, self._seen, self._timer]
        return [*shown, *actions, self.wanted, self._seed]

    def _connect(self) -> None:
        at_once: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        self._timer.tick(self.look, self.known, self.outputs, **at_once)
        in_order: dict[str, Any] = {**at_once, "queue": True, "concurrency_limit": 1, "trigger_mode": "multiple"}
        for clicked in (self.stage, self.strip):
            clicked.click(self._clicked, self.known, self.outputs, **in_order)
        for button, how in ((self._stop, self.app_state.engine.stop), (self._cancel, self.app_state.engine.cancel)):
            button.click(lambda *known, how=how: self._end(how, *known), self.known, self.outputs, **at_once)

    def look(
        self, visitor: str, mine: list[str], wanted: str = "", chosen: str = "", seen: Shown = _NOTHING
    ) -> dict[Any, Any]:
        """What has changed since the last look, by component."""
        jobs = self.app_state.jobs(visitor, mine)[-_MOST_SHOWN:]
        job = self._on_canvas(jobs, wanted)
        if job is None:
            return {self._seen: seen}
        now = job.progress()
        for other in jobs:
            other.progress()  # someone still looks at it
        keys = job_view.keys_of(job)
        self.app_state.judge(keys)
        chosen = chosen if chosen in keys or not keys else keys[0]
        stage = repr((now.state, now.finished, now.step, now.position, now.stopped, now.remarks))
        shown = Shown(job.id, stage, repr([(other.id, other.state) for other in jobs]))
        changes: dict[Any, Any] = {self._seen: shown}  # not what was wanted: a click may have changed that meanwhile
        if shown != seen:
            busy = not job.over or any(not other.over for other in jobs)
            changes[self._timer] = gr.Timer(_SOON if busy else _LATER)
            changes[self.strip] = gr.skip() if shown.is_strip_of(seen) else job_view.show_strip(jobs, job.id)
        if (shown.job, shown.stage) != (seen.job, seen.stage):
            changes |= self._stage(job, now, chosen)
        return changes

    def _stage(self, job: Job, now: Progress, chosen: str) -> dict[Any, Any]:
        text = job_view.failure(job) if job.over else ""
        text = _WELCOME if text and job is self.app_state.example else text
        index = int(chosen.partition("/")[2]) if chosen.startswith(f"{job.id}/") else 0
        kind, count = "calm" if job.state in (CANCELLED, DONE) else "error", len(job.results)
        done = job.over and count > 0
        draft = done and job.request.options.get("steps") == DRAFT_STEPS and job.request.operation == "generate"
        buttons = (self.subtle, self.strong, self.reroll, self.edit)
        changes: dict[Any, Any] = {
            self.stage: job_view.message(text, kind) if text else job_view.show_job(self.app_state, job, now, index),
            self._said: text or (f"Done: {count} picture{'s' * (count != 1)}" if job.over else "Drawing"),
            self._stop: gr.Button(interactive=not job.over and not now.stopped),
            self._cancel: gr.Button(interactive=not job.over),
            self.finish: gr.Button(visible=draft),
            **{button: gr.Button(interactive=done) for button in buttons},
            self.look_inside: gr.Button(interactive=done and job.request.operation == "generate"),
            self._save: save_link(self.app_state, chosen) if done else "",
            self.chosen: chosen,
        }
        return changes | ({self._seed: job.request.seed} if done else {})

    def _on_canvas(self, jobs: list[Job], wanted: str) -> Job | None:
        for job in jobs:
            if job.id == wanted:
                return job
        under_way = [job for job in jobs if not job.over]
        running = [job for job in under_way if job.state == RUNNING]
        begun = [job for job in jobs if job.over and (job.state != CANCELLED or job.peek().steps)]
        return next(iter([*running, *under_way, *begun[-1:]]), self.app_state.remembered_example())

    def _clicked(
        self, visitor: str, mine: list[str], wanted: str, chosen: str, seen: Shown, event: gr.EventData
    ) -> dict[Any, Any]:
        """A picture was picked, on the canvas or in the strip, or something that waits is to be cancelled."""
        key, id = str(said(event, "key") or ""), str(said(event, "cancel") or "")
        for job in self.app_state.jobs(visitor, mine):
            if job.id == id:
                self.app_state.engine.cancel(job)
            if job.id == key.partition("/")[0]:
                wanted = job.id
            if job.id == seen.job and key in job_view.keys_of(job):
                return {self.chosen: key, self._save: save_link(self.app_state, key), self.wanted: job.id}
        return {self.wanted: wanted, **self.look(visitor, mine, wanted, key, seen)}

    def _end(self, how: Any, visitor: str, mine: list[str], wanted: str, chosen: str, seen: Shown) -> dict[Any, Any]:
        """Stop or cancel what is on the canvas."""
        job = self._on_canvas(self.app_state.jobs(visitor, mine), wanted)
        if job is not None:
            how(job)
        return self.look(visitor, mine, wanted, chosen, seen)


def save_link(app_state: AppState, key: str) -> str:
    """A link that saves the picked picture with its recipe, and where it was kept already."""
    try:
        result = app_state.result(key)
    except ValueError:
        return ""
    name = f"amused-{result.picture.recipe.seed}-{result.picture.recipe.picture}.png"
    kept = f"Kept as {result.saved.name}" if result.saved is not None else "Not kept on the disk"
    width, height = result.picture.image.size
    larger = "".join(
        f'<a href="large/{key}/{times}.png" download="{name}">{width * times} x {height * times} px</a>'
        for times in LARGER
    )
    return (
        f'<a href="{page_url(key)}" download="{name}" title="{kept}">Save</a><span class="sr">{kept}</span>'
        f'<details class="larger"><summary>Save larger</summary><div>{larger}'
        "<p>Enlarged by Lanczos resampling: smooth edges, no new detail.</p></div></details>"
    )

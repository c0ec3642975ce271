"""Styles: drop pictures, say what they show, watch it learn, choose candidates for a second round, save the file."""

import time
from collections.abc import Iterator
from html import escape
from io import BytesIO
from typing import Any

import gradio as gr

from amused_lite.adapters.file import load_record
from amused_lite.files.images import open_picture
from amused_lite.files.png import encode_png
from amused_lite.style.config import sample_prompts

from ...engine.engine import ClosingError, QueueFullError
from ...engine.jobs import Job, JobCancelledError, JobError
from ...engine.request import Request
from .. import job_view
from ..app_state import AppState, page_url
from ..learning import Training, Trainings, shown
from .adapter_picker import AdapterPicker
from .events import TICKED, ticked

_MOST, _CANDIDATES = 10, 12


class StylesTab:
    """The tab's components."""

    def __init__(
        self, app_state: AppState, visitor: gr.BrowserState, pickers: list[AdapterPicker], private: gr.Checkbox
    ) -> None:
        """`visitor` finds a training again. `private` is ticked where nothing may be written."""
        self.app_state, self._visitor, self._pickers, self._private = app_state, visitor, pickers, private
        self.trainings = Trainings(app_state)
        self.trainings.take_up()
        self.adapter = gr.State("")  # name of the style that was trained last
        self.dropped = gr.State([])  # what was uploaded, as gradio's components say it
        self.candidates = gr.State([])  # [(key, caption)]
        self.ticked = gr.State([])
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.files = gr.File(
                    label="One to ten pictures of the look",
                    file_count="multiple",
                    file_types=["image"],
                    height=190,
                    elem_id="style-files",
                )
                self.name = gr.Textbox(label="Name of the style", placeholder="melting golden 3d", elem_id="style-name")
                self.captions = gr.Textbox(
                    label="What the pictures show, without the style",
                    lines=3,
                    elem_id="style-captions",
                    placeholder="a boat\na house",
                    info="One line for each picture, or one for all",
                )
                with gr.Accordion("How it learns", open=False):
                    self.steps = gr.Number(
                        None,
                        label="Steps",
                        precision=0,
                        minimum=1,
                        info="Empty: the model's own recipe",
                        elem_id="style-steps",
                    )
                    self.every = gr.Number(
                        None, label="Steps between samples", precision=0, minimum=1, elem_id="style-every"
                    )
                    self.model = gr.Dropdown(list(app_state.engine.model_cache.models), label="Model that learns")
                with gr.Row(elem_classes="row-tight"):
                    self.train = gr.Button("Learn this style", variant="primary", elem_id="train")
                    self.cancel = gr.Button("Stop learning", visible=False, elem_id="train-cancel")
            with gr.Column(scale=3, min_width=320):
                self.said = gr.HTML("", elem_classes="sr")
                self.stage = gr.HTML(
                    job_view.message("Samples appear here while it learns. Pictures can be made meanwhile.", "calm"),
                    elem_id="style-stage",
                )
                with gr.Column(visible=False) as self.feedback:
                    gr.Markdown(
                        "**A second round.** Draw candidates, tick those that have the look, and learn from them."
                    )
                    self.draw = gr.Button("Draw candidates", elem_id="candidates")
                    self.grid = gr.HTML("", js_on_load=TICKED, elem_id="candidate-grid")
                    self.again = gr.Button("Learn from the ticked ones", visible=False, elem_id="train-again")
        self._connect()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        names = [picker.names for picker in self._pickers]
        self.rejoining = [self._visitor, *names]
        offered = [part for picker in self._pickers for part in picker.outputs]
        outputs = [self.stage, self.said, self.train, self.cancel, self.feedback, self.adapter, *offered]
        self.outputs = outputs
        recipe = [self._private, self.steps, self.every, self.model]
        # As it comes: gradio would look for the files on the disk.
        self.files.change(_dropped, self.files, self.dropped, preprocess=False, queue=False, **quiet)
        self.train.click(
            self._first, [self._visitor, self.dropped, self.name, self.captions, *recipe, *names], outputs, **quiet
        )
        self.cancel.click(self.trainings.stop, None, None, queue=False, **quiet)
        self.draw.click(
            self._draw, [self.adapter, self.model], [self.grid, self.again, self.candidates, self.ticked], **quiet
        )
        self.grid.click(_tick, None, self.ticked, queue=False, **quiet)
        self.again.click(
            self._second, [self._visitor, self.candidates, self.ticked, self.adapter, *recipe, *names], outputs, **quiet
        )

    def _first(
        self,
        visitor: str,
        files: list[dict[str, Any]],
        name: str,
        captions: str,
        private: bool,
        steps: int | None,
        every: int | None,
        model: str,
        *chosen: list[str],
    ) -> Iterator[list[Any]]:
        try:
            self._check_may_write(private)
            lines = _captions(len(files), captions or "")
            style = (name or "").strip()
            if not style:
                raise ValueError("give the style a name, such as melting golden 3d")
            pictures = [(self._picture(file), line) for file, line in zip(files, lines, strict=True)]
            yield from self._learn(visitor, pictures, style, steps, every, model, chosen)
        except (ValueError, OSError) as error:
            yield self._refused(str(error))

    def _second(
        self,
        visitor: str,
        candidates: list[tuple[str, str]],
        ticked: list[int],
        adapter: str,
        private: bool,
        steps: int | None,
        every: int | None,
        model: str,
        *chosen: list[str],
    ) -> Iterator[list[Any]]:
        try:
            self._check_may_write(private)
            chosen_ones = [candidates[number] for number in ticked if number < len(candidates)]
            if not chosen_ones:
                raise ValueError("tick at least one picture that has the look")
            pictures = [
                (bytes(encode_png(self.app_state.source(key).image, None)), caption) for key, caption in chosen_ones
            ]
            record = load_record(self.app_state.engine.model_cache.adapters[adapter])
            style = str(record.recipe.get("style") or record.trigger)
            yield from self._learn(visitor, pictures, style, steps, every, model, chosen)
        except (ValueError, OSError, KeyError) as error:
            yield self._refused(str(error))

    def _check_may_write(self, private: bool) -> None:
        """
        Raises:
            ValueError: the visitor, or the whole server, wants nothing on the disk.
        """
        if self.app_state.history is None:
            raise ValueError("learning writes files, and this server was started with --no-history")
        if private:
            raise ValueError("learning writes files; untick Write nothing to the disk first")

    def _picture(self, file: dict[str, Any]) -> bytes:
        """An upload as a PNG, whatever it was: the training opens files less carefully than this."""
        return bytes(encode_png(open_picture(BytesIO(self.app_state.uploaded(file))).image, None))

    def _refused(self, text: str) -> list[Any]:
        text = f"{text[:1].upper()}{text[1:]}"
        buttons = [gr.Button(interactive=True), gr.Button(visible=False)]
        return [job_view.message(text), text, *buttons, *[gr.skip()] * (len(self.outputs) - 4)]

    def _learn(
        self,
        visitor: str,
        pictures: list[tuple[bytes, str]],
        style: str,
        steps: int | None,
        every: int | None,
        model: str,
        chosen: tuple[list[str], ...],
    ) -> Iterator[list[Any]]:
        """Train, showing how it goes; only one at a time."""
        values = {
            "style": style,
            "prompts": sample_prompts(model),
            "model": str(self.app_state.engine.model_cache.models[model]),
            "threads": self.app_state.threads,
            "recipe": {"steps": steps and int(steps), "sample_every": every and int(every)},
        }
        yield from self._follow(self.trainings.begin(pictures, values, visitor), chosen)

    def rejoin(self, visitor: str, *chosen: list[str]) -> Iterator[list[Any]]:
        """Show a visitor whose page was loaded again how the training goes, or how it ended."""
        training = self.trainings.latest
        if training is None or training.visitor != visitor:
            yield [gr.skip()] * len(self.outputs)
            return
        yield from self._follow(training, chosen)

    def _follow(self, training: Training, chosen: tuple[list[str], ...]) -> Iterator[list[Any]]:
        skip, seen = gr.skip(), -1
        rest = [skip] * (len(self.outputs) - 4)
        while not training.ended():
            if training.version != seen and training.last["state"] != "done":  # which is shown once its file is offered
                words, began = "Learning has begun" if seen < 0 else skip, seen < 0
                seen = training.version
                buttons = [gr.Button(interactive=False), gr.Button(visible=True)] if began else [skip, skip]
                yield [shown(training), words, *buttons, *rest]
            time.sleep(0.25)
        html, text, name = self.trainings.outcome(training)
        buttons = [gr.Button(interactive=True), gr.Button(visible=False)]
        if not name:
            yield [html, text, *buttons, *rest]
            return
        lists = [part for picker, before in zip(self._pickers, chosen, strict=True) for part in picker.choose(before)]
        yield [html, text, *buttons, gr.Column(visible=True), name, *lists]

    def _draw(self, adapter: str, model: str) -> Iterator[list[Any]]:
        """Candidates one after another, each a job of its own."""
        keys: list[tuple[str, str]] = []
        skip = gr.skip()
        try:
            trigger = load_record(self.app_state.engine.model_cache.adapters[adapter]).trigger
            prompts = sample_prompts(model)
            for number in range(_CANDIDATES):
                caption = prompts[number % len(prompts)]
                request = Request(
                    prompt=f"{caption} {trigger}".strip(),
                    seed=number,
                    model=model,
                    adapters=((adapter, 1.0),),
                    keep=False,
                )
                job: Job = self.app_state.engine.submit(request, "page")
                job.wait()
                keys.append((f"{job.id}/0", caption))
                yield [_candidates(keys), gr.Button(visible=False), keys, []]
        except (ValueError, OSError, KeyError, JobError, JobCancelledError, QueueFullError, ClosingError) as error:
            yield [job_view.message(str(error)), skip, keys, []]
            return
        yield [skip, gr.Button(visible=True), keys, []]


def _tick(event: gr.EventData) -> list[int]:
    return ticked(event, _CANDIDATES)


def _dropped(files: Any) -> list[dict[str, Any]]:
    """The files of what a client says it dropped, and nothing else of it: it is remembered for the session."""
    some = files[: _MOST + 1] if isinstance(files, list) else []
    return [{"path": file["path"]} for file in some if isinstance(file, dict) and "path" in file]


def _captions(pictures: int, captions: str) -> list[str]:
    """One for each picture.

    Raises:
        ValueError: there are too few or too many, or their captions do not fit.
    """
    if not 1 <= pictures <= _MOST:
        raise ValueError(f"drop one to ten pictures of the look; there are {pictures if pictures <= _MOST else 'more'}")
    lines = [line.strip() for line in captions.splitlines() if line.strip()]
    if len(lines) not in (1, pictures):
        raise ValueError(f"say what the pictures show: one line for all, or {pictures} lines; there are {len(lines)}")
    return lines * pictures if len(lines) == 1 else lines


def _candidates(keys: list[tuple[str, str]]) -> str:
    tiles = "".join(
        f'<label><input type="checkbox" value="{number}">'
        f'<img alt="Candidate {number + 1}: {escape(caption, quote=True)}" '
        f'src="{page_url(key)}"><span class="name">{number + 1}: {escape(caption)}</span></label>'
        for number, (key, caption) in enumerate(keys)
    )
    return f'<div class="gallery-own" role="group" aria-label="Candidates">{tiles}</div>'

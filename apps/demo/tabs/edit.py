"""Edits: paint to replace, extend, change by words, with what must stay; undo and redo over lists of tokens."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np
from PIL import Image

from amused_lite.files.images import SourceImage, open_picture

from ...engine.engine import ClosingError, QueueFullError
from ...engine.jobs import Job
from ...engine.request import Request
from .. import job_view
from ..app_state import AppState, page_url
from ..versions import Version, Versions
from .prompt import PromptPanel

_TOOLS = ["Replace what I painted", "Extend the picture", "Change it by words"]
_AREAS = ["What I painted", "Left half", "Right half", "Upper half", "Lower half", "Middle"]
_SIDES = ["Left", "Right", "Top", "Bottom"]
_LEAST, _MOST_PX = 32, 512  # px to extend by
_MOST_LAYERS = 4  # the editor makes one
_EMPTY = "Open a picture, or choose Edit below one you made."


class EditTab:
    """Its components; `open` is for the buttons of other tabs, with `opened` as its outputs."""

    def __init__(self, app_state: AppState, visitor: gr.BrowserState, panel: PromptPanel) -> None:
        """Model, styles, seed and number of pictures are those of `panel`."""
        self.app_state, self._visitor, self._panel = app_state, visitor, panel
        self.versions = gr.State(Versions())
        self.job = gr.State("")
        with gr.Row():
            with gr.Column(scale=3, min_width=560):
                self.editor = gr.ImageEditor(
                    type="pil",
                    label="Paint over what shall change, or stay",
                    layers=False,
                    transforms=(),
                    sources=(),
                    brush=gr.Brush(colors=["#2bb39a"], color_mode="fixed", default_size=48),
                    eraser=gr.Eraser(default_size=48),
                    canvas_size=(512, 512),
                    format="png",
                    height=540,
                    buttons=[],
                    placeholder=_EMPTY,
                    elem_id="editor",
                    visible=False,  # an empty canvas is a white hole in a dark page
                )
                self.story = gr.HTML(f'<p class="foot">{_EMPTY}</p>', elem_id="story")
                with gr.Row(elem_classes="row-tight"):
                    self.undo = gr.Button("Undo", interactive=False, elem_id="undo")
                    self.redo = gr.Button("Redo", interactive=False, elem_id="redo")
                    self.upload = gr.UploadButton("Open a picture", file_types=["image"], elem_id="open-picture")
            with gr.Column(scale=2, min_width=300):
                self.tool = gr.Radio(_TOOLS, value=_TOOLS[0], label="What to do", elem_id="tool")
                self.prompt = gr.Textbox(
                    label="What the whole picture shall show", lines=2, max_lines=5, elem_id="edit-prompt"
                )
                self.area = gr.Dropdown(
                    _AREAS,
                    value=_AREAS[0],
                    label="Where",
                    elem_id="area",
                    info="Areas by name, for those who cannot or will not paint",
                )
                self.sides = gr.CheckboxGroup(
                    _SIDES,
                    value=["Right"],
                    label="To which sides",
                    visible=False,
                    elem_id="sides",
                )
                self.amount = gr.Slider(_LEAST, _MOST_PX, 256, step=16, label="By how many px", visible=False)
                self.keep = gr.Checkbox(
                    False,
                    label="What I painted must stay",
                    visible=False,
                    elem_id="keep",
                    info="Locked tokens are not drawn anew",
                )
                self.apply = gr.Button("Apply", variant="primary", elem_id="apply")
                with gr.Row(visible=False, elem_classes="row-tight") as self.working:
                    self.stop = gr.Button("Stop here", elem_id="edit-stop")
                    self.cancel = gr.Button("Cancel", elem_id="edit-cancel")
                self.said = gr.HTML("", elem_classes="sr")
                self.stage = gr.HTML("", elem_id="edit-stage")
        self._connect()

    @property
    def opened(self) -> list[Any]:
        """Outputs of whatever changes the picture."""
        return [self.versions, self.editor, self.story, self.undo, self.redo, self.stage]

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        self.tool.change(self._tool, self.tool, [self.area, self.sides, self.amount, self.keep], **quiet)
        raw: dict[str, Any] = {**quiet, "preprocess": False}  # gradio would look for files on the disk
        self.upload.upload(self._upload, self.upload, [*self.opened, self.prompt], **raw)
        self.undo.click(lambda versions: self._move(versions, -1), self.versions, self.opened, **quiet)
        self.redo.click(lambda versions: self._move(versions, 1), self.versions, self.opened, **quiet)
        inputs = [self._visitor, self.versions, self.editor, self.tool, self.prompt, self.area, self.sides]
        panel = self._panel
        inputs += [self.amount, self.keep, panel.count, panel.seed, panel.lock, *panel.how]
        outputs = [*self.opened, self.job, self.said, self.apply, self.working]
        gr.on([self.apply.click, self.prompt.submit], self._apply, inputs, outputs, concurrency_limit=8, **raw)
        at_once = {**quiet, "queue": False}
        self.cancel.click(lambda id: self._end(id, self.app_state.engine.cancel), self.job, None, **at_once)
        self.stop.click(lambda id: self._end(id, self.app_state.engine.stop), self.job, None, **at_once)

    def open(self, key: str) -> list[Any]:
        """Begin with a picture of another tab: outputs are `opened` and the prompt."""
        try:
            return self._begin(self.app_state.source(key), key)
        except ValueError as error:
            return [*[gr.skip()] * 5, job_view.message(str(error)), gr.skip()]

    def _begin(self, source: SourceImage, key: str = "") -> list[Any]:
        prompt = source.recipe.prompt if source.recipe is not None else gr.skip()
        return [*self._show(Versions().add(Version.of(self.app_state.uploads, source, picture=key))), prompt]

    def _upload(self, file: dict[str, Any] | None) -> Iterator[list[Any]]:
        yield [*[gr.skip()] * 5, job_view.message("Opening the picture", "calm"), gr.skip()]
        try:
            yield self._begin(open_picture(BytesIO(self.app_state.uploaded(file))))
        except ValueError as error:
            yield [*[gr.skip()] * 5, job_view.message(str(error)), gr.skip()]

    def _move(self, versions: Versions, by: int) -> list[Any]:
        """To another version, where it is still in memory."""
        moved = versions.moved(by)
        try:
            if moved.now is not None:
                moved.now.open(self.app_state.uploads)
        except ValueError as error:
            return [*[gr.skip()] * 5, job_view.message(str(error))]
        return self._show(moved)

    def _show(self, versions: Versions, note: str = "") -> list[Any]:
        """Everything that shows where one stands."""
        key = None if versions.now is None else versions.now.shown
        value: Any = None if key is None else {"background": key, "layers": [], "composite": key}
        return [
            versions,
            gr.ImageEditor(value, visible=value is not None),
            f'<p class="foot">{versions.story() or _EMPTY}</p>',
            gr.Button(interactive=versions.at > 0),
            gr.Button(interactive=versions.at + 1 < len(versions.items)),
            note,
        ]

    def _tool(self, tool: str) -> list[Any]:
        extend, words = tool == _TOOLS[1], tool == _TOOLS[2]
        return [
            gr.Dropdown(visible=not extend),
            gr.CheckboxGroup(visible=extend),
            gr.Slider(visible=extend),
            gr.Checkbox(visible=words),
        ]

    def _apply(self, visitor: str, versions: Versions, *chosen: Any) -> Iterator[list[Any]]:
        """`chosen`: what `_request` takes besides."""
        skip, uploads = gr.skip(), self.app_state.uploads
        try:
            if versions.now is None:
                raise ValueError(_EMPTY)
            source = versions.now.open(uploads)
            request = replace(self._request(source, *chosen), parent=versions.now.picture)
            job = self.app_state.submit(request, visitor)
        except (TypeError, ValueError, OverflowError, QueueFullError, ClosingError) as error:
            text = f"{str(error)[:1].upper()}{str(error)[1:]}"
            yield [*[skip] * 5, job_view.message(text), skip, text, skip, skip]
            return
        first = True
        for html, _ in job_view.follow(self.app_state, job):
            if job.over:
                break
            start = [job.id, "Drawing", gr.Button(interactive=False), gr.Row(visible=True)] if first else [skip] * 4
            yield [*[skip] * 5, html, *start]
            first = False
        failed = job_view.failure(job)
        after = [job.id, failed or "Done", gr.Button(interactive=True), gr.Row(visible=False)]
        if failed:
            kind = "calm" if job.state == "cancelled" else "error"
            yield [*[skip] * 5, job_view.message(failed, kind), *after]
            return
        before = versions.now
        for key in reversed(job_view.keys_of(job)):  # the first is shown, undo goes to the others
            versions = versions.add(Version.of(uploads, self.app_state.source(key), source, key))
        made = job.results[0].picture.image.size == source.image.size
        before = f"gradio_api/file={quote(before.key)}" if made else ""
        yield [*self._show(versions, _save(job, before)), *after]

    def _request(
        self,
        source: SourceImage,
        value: dict[str, Any] | None,
        tool: str,
        prompt: str,
        area: str,
        sides: list[str],
        amount: int,
        keep: bool,
        count: int,
        seed: int | None,
        lock: bool,
        *how: Any,
    ) -> Request:
        """
        Raises:
            ValueError: nothing says where.
        """
        sides = _listed(sides)
        offered = tool in _TOOLS and area in _AREAS and all(side in _SIDES for side in sides)
        if not offered or amount not in range(_LEAST, _MOST_PX + 1) or not isinstance(prompt or "", str):
            raise ValueError("the page does not offer this; load it again")
        prompt = (prompt or "").strip()
        same = self._panel.how_fields(*how) | {"source": source, "count": int(count or 1)}
        same["seed"] = int(seed) if lock and seed is not None else None
        if tool == _TOOLS[1]:
            if not sides:
                raise ValueError("choose at least one side to extend to")
            settings = {side.lower(): int(amount) for side in sides}
            return Request("outpaint", prompt=prompt or None, settings=settings, **same)
        mask = _mask(self._strokes(value) if area == _AREAS[0] else [], area, source.image.size)
        if tool == _TOOLS[2]:
            return Request("edit", prompt=prompt, mask=mask if keep else None, settings=whole(source), **same)
        if mask is None:
            raise ValueError("paint over what shall be replaced, or choose an area by name under Where")
        return Request("inpaint", prompt=prompt, mask=mask, **same)

    def _strokes(self, value: dict[str, Any] | None) -> list[Image.Image]:
        """What was painted on each layer, mode L."""
        files = _listed(value.get("layers") if isinstance(value, dict) else None)
        if len(files) > _MOST_LAYERS:
            raise ValueError(f"at most {_MOST_LAYERS} layers are taken, got {len(files)}; paint on one")
        layers = [open_picture(BytesIO(self.app_state.uploaded(file))) for file in files]
        return [layer.alpha or Image.new("L", layer.image.size, 255) for layer in layers]

    def _end(self, id: str, how: Any) -> None:
        try:
            how(self.app_state.engine.job(id))
        except KeyError:
            pass


def _listed(value: Any) -> list[Any]:
    """A list that a client sent, or none."""
    return value if isinstance(value, list) else []


def whole(source: SourceImage) -> dict[str, Any]:
    """The setting that keeps the shape of a picture that is no square."""
    return {"pad": True} if source.image.width != source.image.height else {}


def _mask(strokes: list[Image.Image], area: str, size: tuple[int, int]) -> Image.Image | None:
    """What was painted, or the named area, as white on black; None where nothing was painted."""
    width, height = size
    if area != _AREAS[0]:
        boxes = {
            "Left half": (0, 0, width // 2, height),
            "Right half": (width // 2, 0, width, height),
            "Upper half": (0, 0, width, height // 2),
            "Lower half": (0, height // 2, width, height),
            "Middle": (width // 4, height // 4, width - width // 4, height - height // 4),
        }
        mask = Image.new("L", size)
        mask.paste(255, boxes[area])
        return mask
    painted = None
    for stroke in strokes:
        alpha = stroke.point([255 if level > 32 else 0 for level in range(256)])
        painted = alpha if painted is None else Image.fromarray(np.maximum(np.asarray(painted), np.asarray(alpha)))
    if painted is None or not painted.getbbox():
        return None
    return painted if painted.size == size else painted.resize(size, Image.Resampling.NEAREST)


def _save(job: Job, before: str) -> str:
    """A link that saves it; and with the picture before it, where they are of one size, in comparison."""
    name, address = f"amused-{job.request.seed}.png", page_url(f"{job.id}/0")
    compared = job_view.compared(before, address) if before else ""
    return f'<p class="foot"><a href="{address}" download="{name}">Save this version</a></p>{compared}'

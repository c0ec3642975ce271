"""Edits: paint to replace, extend, change by words, with what must stay; undo and redo over lists of tokens."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from amused_lite.files.images import SourceImage, open_picture

from ...engine.engine import ClosingError, QueueFullError
from ...engine.request import Request
from .. import job_view
from ..app_state import AppState
from ..versions import Version, Versions
from .prompt import PromptPanel, note

_TOOLS = ["Replace what I painted", "Extend the picture", "Change it by words"]
_AREAS = ["What I painted", "Left half", "Right half", "Upper half", "Lower half", "Middle"]
_SIDES = ["Left", "Right", "Top", "Bottom"]
_LEAST, _MOST_PX = 32, 512  # px to extend by
_MOST_LAYERS = 4  # the editor makes one
_EMPTY = "This picture is no longer in memory; go back and choose one"
_HINT = "Paint on the picture, say what all of it shows, and Apply. Escape goes back."


class EditMode:
    """Its components; `begin` shows a picture in it, with `begun` as its outputs."""

    def __init__(self, app_state: AppState, visitor: gr.BrowserState, panel: PromptPanel) -> None:
        """Model, styles, seed and number of pictures are those of `panel`."""
        self.app_state, self._visitor, self._panel = app_state, visitor, panel
        self.versions = gr.State(Versions())
        self.job = gr.State("")
        with gr.Row(elem_classes="mode", elem_id="edit-mode", visible=False) as self.row:
            with gr.Column(elem_classes="ask", scale=0, min_width=320):
                self._build_tools()
            with gr.Column(elem_classes="show", min_width=320):
                self.editor = gr.ImageEditor(
                    type="pil",
                    label="Paint over what shall change, or stay",
                    show_label=False,
                    layers=False,
                    transforms=(),
                    sources=(),
                    brush=gr.Brush(colors=["#2bb39a"], color_mode="fixed", default_size=48),
                    eraser=gr.Eraser(default_size=48),
                    canvas_size=(512, 512),
                    format="png",
                    buttons=[],
                    elem_id="editor",
                )
                self.stage = gr.HTML("", elem_id="edit-stage", padding=False)
                self.story = gr.HTML("", elem_id="story", padding=False)
                with gr.Row(elem_classes="row-tight edge"):
                    self.back = gr.Button("Back", elem_classes="back-button", elem_id="edit-back")
                    self.undo = gr.Button("Undo", interactive=False, elem_id="undo")
                    self.redo = gr.Button("Redo", interactive=False, elem_id="redo")
        self._connect()

    def _build_tools(self) -> None:
        self.tool = gr.Radio(_TOOLS, value=_TOOLS[0], label="What to do", elem_id="tool")
        self.prompt = gr.Textbox(label="What the whole picture shall show", max_lines=4, elem_id="edit-prompt")
        self.area = gr.Dropdown(
            _AREAS,
            value=_AREAS[0],
            label="Where",
            elem_id="area",
            info="Areas by name, for those who cannot or will not paint",
        )
        self.sides = gr.CheckboxGroup(_SIDES, value=["Right"], label="To which sides", visible=False, elem_id="sides")
        self.amount = gr.Slider(_LEAST, _MOST_PX, 256, step=16, label="By how many px", visible=False)
        self.keep = gr.Checkbox(
            False,
            label="What I painted must stay",
            visible=False,
            elem_id="keep",
            info="Locked tokens are not drawn anew",
        )
        with gr.Row(elem_classes="go-row"):
            self.apply = gr.Button("Apply", variant="primary", elem_id="apply", scale=2, min_width=100)
            self.stop = gr.Button("Stop", interactive=False, elem_id="edit-stop", scale=1, min_width=70)
            self.cancel = gr.Button("Cancel", interactive=False, elem_id="edit-cancel", scale=1, min_width=70)
        self.note = gr.HTML(note(hint=_HINT), elem_id="edit-note", elem_classes="under")
        self.said = gr.HTML("", elem_classes="sr", elem_id="edit-said")

    @property
    def _shown(self) -> list[Any]:
        """Outputs of whatever changes the picture."""
        return [self.versions, self.editor, self.story, self.undo, self.redo, self.note]

    @property
    def begun(self) -> list[Any]:
        """Outputs of `begin`."""
        return [*self._shown, self.prompt]

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        self.tool.change(self._tool, self.tool, [self.area, self.sides, self.amount, self.keep], **quiet)
        self.undo.click(lambda versions: self._move(versions, -1), self.versions, self._shown, **quiet)
        self.redo.click(lambda versions: self._move(versions, 1), self.versions, self._shown, **quiet)
        inputs = [self._visitor, self.versions, self.editor, self.tool, self.prompt, self.area, self.sides]
        panel = self._panel
        inputs += [self.amount, self.keep, panel.count, panel.seed, panel.lock, *panel.how]
        outputs = [*self._shown, self.stage, self.job, self.said, self.apply, self.stop, self.cancel]
        raw: dict[str, Any] = {**quiet, "preprocess": False}  # gradio would look for files on the disk
        gr.on([self.apply.click, self.prompt.submit], self._apply, inputs, outputs, concurrency_limit=8, **raw)
        at_once = {**quiet, "queue": False}
        self.cancel.click(lambda id: self._end(id, self.app_state.engine.cancel), self.job, None, **at_once)
        self.stop.click(lambda id: self._end(id, self.app_state.engine.stop), self.job, None, **at_once)

    def begin(self, source: SourceImage, key: str) -> dict[Any, Any]:
        """Work on a picture, which has this key on the page."""
        prompt = source.recipe.prompt if source.recipe is not None else ""
        versions = Versions().add(Version.of(self.app_state.uploads, source, picture=key))
        return self._show(versions) | {self.prompt: prompt}

    def _move(self, versions: Versions, by: int) -> dict[Any, Any]:
        """To another version, where it is still in memory."""
        moved = versions.moved(by)
        try:
            if moved.now is not None:
                moved.now.open(self.app_state.uploads)
        except ValueError as error:
            return {self.note: note(str(error))}
        return self._show(moved)

    def _show(self, versions: Versions) -> dict[Any, Any]:
        """Everything that shows where one stands."""
        key = None if versions.now is None else versions.now.shown
        return {
            self.versions: versions,
            self.editor: None if key is None else {"background": key, "layers": [], "composite": key},
            self.story: f'<p class="foot">{versions.story()}</p>',
            self.undo: gr.Button(interactive=versions.at > 0),
            self.redo: gr.Button(interactive=versions.at + 1 < len(versions.items)),
            self.note: note(hint=_HINT),
        }

    def _tool(self, tool: str) -> list[Any]:
        extend, words = tool == _TOOLS[1], tool == _TOOLS[2]
        return [
            gr.Dropdown(visible=not extend),
            gr.CheckboxGroup(visible=extend),
            gr.Slider(visible=extend),
            gr.Checkbox(visible=words),
        ]

    def _apply(self, visitor: str, versions: Versions, *chosen: Any) -> Iterator[dict[Any, Any]]:
        """`chosen`: what `_request` takes besides."""
        uploads = self.app_state.uploads
        try:
            if versions.now is None:
                raise ValueError(_EMPTY)
            source = versions.now.open(uploads)
            request = replace(self._request(source, *chosen), parent=versions.now.picture)
            job = self.app_state.submit(request, visitor)
        except (TypeError, ValueError, OverflowError, QueueFullError, ClosingError) as error:
            yield {self.note: note(str(error)), self.said: str(error)}
            return
        yield {self.job: job.id, self.said: "Drawing", self.note: note(hint=_HINT), **self._working(True)}
        for html, _ in job_view.follow(self.app_state, job):
            if job.over:
                break
            yield {self.stage: html}
        failed = job_view.failure(job)
        after = {self.stage: "", self.said: failed or "Done", **self._working(False)}
        if failed:
            yield {**after, self.note: note(failed)}
            return
        for key in reversed(job_view.keys_of(job)):  # the first is shown, undo goes to the others
            versions = versions.add(Version.of(uploads, self.app_state.source(key), source, key))
        yield self._show(versions) | after

    def _working(self, is_working: bool) -> dict[Any, Any]:
        ends = {button: gr.Button(interactive=is_working) for button in (self.stop, self.cancel)}
        return {self.apply: gr.Button(interactive=not is_working), **ends}

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

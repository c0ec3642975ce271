"""One picture, and three modes to work on it: draw, edit, look inside. Each is a row of two columns, one is seen."""

from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

import gradio as gr

from amused_lite.files.images import open_picture

from ...engine.engine import ClosingError, QueueFullError
from ..app_state import AppState, job_of, upload_key
from ..versions import Versions
from .draw import DrawMode
from .edit import EditMode
from .events import said_number
from .prompt import note
from .trace import TraceMode


class Modes:
    """The modes; `edit_picture` is for the buttons of other tabs, with `edited` as its outputs."""

    def __init__(self, app_state: AppState, visitor: gr.BrowserState, private: gr.Checkbox) -> None:
        """`visitor` is the key that finds pictures again; `private` is ticked where nothing may be written."""
        self.app_state = app_state
        self.draw = DrawMode(app_state, visitor, private)
        self.edit = EditMode(app_state, visitor, self.draw.panel)
        self.trace = TraceMode(app_state)
        self._connect()

    @property
    def edited(self) -> list[Any]:
        """Outputs of `edit_picture`."""
        return [*self.edit.begun, *self._rows, self.draw.panel.note]

    @property
    def _rows(self) -> list[Any]:
        return [self.edit.row, self.trace.row]

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        at_once = {**quiet, "queue": False}
        canvas, panel, edit, trace = self.draw.canvas, self.draw.panel, self.edit, self.trace
        canvas.edit.click(self.edit_picture, canvas.chosen, self.edited, **quiet)
        canvas.upload.upload(self._upload, canvas.upload, self.edited, preprocess=False, **quiet)  # on no disk
        canvas.look_inside.click(self._look_inside, canvas.chosen, [*trace.begun, *self._rows, panel.note], **quiet)
        known, shown = canvas.known, [canvas.mine, *canvas.outputs, *self._rows]
        edit.back.click(self._back, [*known[:2], edit.job, edit.versions], shown, **at_once)
        trace.back.click(lambda: self._show(None), None, self._rows, **at_once)
        inputs = [*known[:2], trace.key, trace.tokens, trace.cell, panel.count, *panel.how]
        asked = [panel.note, *shown]
        trace.redo.click(self._redo_spot, inputs, asked, **at_once)
        trace.tries.click(self._take, inputs, asked, **at_once)

    def _show(self, mode: EditMode | TraceMode | None) -> dict[Any, Any]:
        """The row of one mode, or of none: the first stays in the page, hidden by the style sheet."""
        return {row: gr.Row(visible=mode is not None and row is mode.row) for row in self._rows}

    def _refused(self, error: Exception) -> dict[Any, Any]:
        return {self.draw.panel.note: note(str(error))}

    def edit_picture(self, key: str) -> dict[Any, Any]:
        """Work on a picture of the page."""
        try:
            return self.edit.begin(self.app_state.source(key), key) | self._show(self.edit)
        except ValueError as error:
            return self._refused(error)

    def _upload(self, file: dict[str, Any] | None) -> Iterator[dict[Any, Any]]:
        yield {self.draw.panel.note: note("Opening the picture.")}
        try:
            source = open_picture(BytesIO(self.app_state.uploaded(file)))
        except ValueError as error:
            yield self._refused(error)
            return
        assert file is not None
        begun = self.edit.begin(source, upload_key(file["path"]))
        yield {**begun, **self._show(self.edit), self.draw.panel.note: note()}

    def _look_inside(self, key: str) -> Iterator[dict[Any, Any]]:
        try:
            for shown in self.trace.begin(key):
                yield shown | self._show(self.trace)
        except (ValueError, QueueFullError, ClosingError) as error:
            yield self._refused(error)

    def _back(self, visitor: str, mine: list[str], job: str, versions: Versions) -> dict[Any, Any]:
        """To the canvas, with what is drawn from the picture, or with the version that was seen."""
        key = "" if versions.now is None else versions.now.picture
        with suppress(KeyError):
            key = key if self.app_state.engine.job(job).over else f"{job}/0"
        wanted, canvas = job_of(key), self.draw.canvas
        made = {job_of(version.picture) for version in versions.items[1:]} | {job}
        mine = [*mine, *sorted(made - {"", *mine})]
        shown = canvas.look(visitor, mine, wanted, key)
        return {**self._show(None), canvas.mine: mine, canvas.wanted: wanted, **shown}

    def _redo_spot(
        self, visitor: str, mine: list[str], key: str, kept: Any, cell: int, count: int, *how: Any
    ) -> dict[Any, Any]:
        """Draw the place around a token anew, on the canvas."""
        return self._ask_spot(visitor, mine, (key, kept, cell), count, *how)

    def _take(
        self,
        event: gr.EventData,
        visitor: str,
        mine: list[str],
        key: str,
        kept: Any,
        cell: int,
        count: int,
        *how: Any,
    ) -> dict[Any, Any]:
        """The same, with the alternative that was clicked in the token's place."""
        return self._ask_spot(visitor, mine, (key, kept, cell, said_number(event, "take")), count, *how)

    def _ask_spot(self, visitor: str, mine: list[str], spot: Any, count: int, *how: Any) -> dict[Any, Any]:
        def fields() -> dict[str, Any]:
            same = self.draw.panel.how_fields(*how)
            return {**self.trace.spot(*spot), "count": int(count or 1), **same}

        return self.draw.ask(visitor, mine, fields) | self._show(None)

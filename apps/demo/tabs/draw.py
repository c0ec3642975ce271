"""Drawing: the sentence on the left, and the canvas on which its pictures form on the right."""

from typing import Any

import gradio as gr

from ...engine.engine import ClosingError, QueueFullError
from ...engine.jobs import Job
from ...engine.request import Request
from ..app_state import AppState, visitor_key
from .canvas import CanvasColumn
from .edit import whole
from .prompt import PromptPanel, note

SUBTLE, STRONG = 0.3, 0.6  # of the schedule that a variation runs
_TWICE = 1.0  # s within which the same wish is a slip of the finger
_MOST_MINE = 32


class DrawMode:
    """Its components; the other modes work on the picture `canvas.chosen`, and ask for others by `ask`."""

    def __init__(self, app_state: AppState, visitor: gr.BrowserState, private: gr.Checkbox) -> None:
        """`visitor` is the key that finds pictures again; `private` is ticked where nothing may be written."""
        self.app_state, self._visitor, self._private = app_state, visitor, private
        with gr.Row(elem_classes="mode", elem_id="draw-mode"):
            with gr.Column(elem_classes="ask", scale=0, min_width=320):
                self.panel = PromptPanel(app_state, private)
            with gr.Column(elem_classes="show", min_width=320):
                self.canvas = CanvasColumn(app_state, visitor, self.panel.stop, self.panel.cancel, self.panel.seed)
        self._connect()

    def _connect(self) -> None:
        at_once: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        panel, canvas = self.panel, self.canvas
        known, outputs = canvas.known, [panel.note, canvas.mine, *canvas.outputs]
        gr.on([panel.go.click, panel.prompt.submit], self._draw, [*known, *panel.inputs], outputs, **at_once)
        for button, operation, settings in (
            (canvas.subtle, "vary", {"strength": SUBTLE}),
            (canvas.strong, "vary", {"strength": STRONG}),
            (canvas.reroll, "reroll", {}),
        ):
            inputs = [*known, panel.count, *panel.how]
            button.click(self._again(operation, settings), inputs, outputs, **at_once)
        canvas.finish.click(self._finish, [*known, panel.steps, *panel.how], outputs, **at_once)

    def arrive(self, visitor: str, private: bool, mine: list[str], wanted: str, chosen: str) -> dict[Any, Any]:
        """What a page begins with, also when it was loaded again: outputs are `arrived`."""
        visitor = "" if private else visitor_key(visitor)
        jobs = self.app_state.jobs(visitor, mine)
        last = jobs[-1].request.prompt if jobs else None
        shown = self.canvas.look(visitor, mine, wanted, chosen)
        return {self._visitor: visitor, self.panel.prompt: last or gr.skip(), **shown}

    @property
    def arriving(self) -> list[Any]:
        """Inputs of `arrive`."""
        return [self._visitor, self._private, self.canvas.mine, self.canvas.wanted, self.canvas.chosen]

    @property
    def arrived(self) -> list[Any]:
        """Outputs of `arrive`."""
        return [self._visitor, self.panel.prompt, *self.canvas.outputs]

    def _draw(self, visitor: str, mine: list[str], wanted: str, chosen: str, seen: Any, *values: Any) -> dict[Any, Any]:
        return self.ask(visitor, mine, lambda: self.panel.fields(*values))

    def _again(self, operation: str, settings: dict[str, Any]) -> Any:
        def ask(
            visitor: str, mine: list[str], wanted: str, chosen: str, seen: Any, count: int, *how: Any
        ) -> dict[Any, Any]:
            def fields() -> dict[str, Any]:
                source, same = self.app_state.source(chosen), self.panel.how_fields(*how)
                chosen_settings = settings | whole(source)
                return {
                    "operation": operation,
                    "settings": chosen_settings,
                    "source": source,
                    "parent": chosen,
                    "count": int(count or 1),
                    **same,
                }

            return self.ask(visitor, mine, fields)

        return ask

    def _finish(
        self, visitor: str, mine: list[str], wanted: str, chosen: str, seen: Any, steps: int, *how: Any
    ) -> dict[Any, Any]:
        """Finish a draft: the same seed and image index, then its least likely tokens drawn again."""

        def fields() -> dict[str, Any]:
            recipe = self.app_state.result(chosen).picture.recipe
            options: dict[str, Any] = {"steps": recipe.steps, "refine": max(2, int(steps or 0) - recipe.steps)}
            if recipe.guidance_scale is not None:
                options["guidance_scale"] = recipe.guidance_scale
            return {
                "prompt": recipe.prompt,
                "negative_prompt": recipe.negative_prompt,
                "seed": recipe.seed,
                "image_index": recipe.picture,
                "parent": chosen,
                "options": options,
                **self.panel.how_fields(*how),
            }

        return self.ask(visitor, mine, fields)

    def ask(self, visitor: str, mine: list[str], fields: Any) -> dict[Any, Any]:
        """Queue one job, and show what is drawn now."""
        try:
            request, jobs = Request(**fields()), self.app_state.jobs(visitor, mine)
            if not any(_is_slip(request, job) for job in jobs[-1:]):
                mine = [*mine, self.app_state.submit(request, visitor).id][-_MOST_MINE:]
        except (TypeError, ValueError, OverflowError, QueueFullError, ClosingError) as error:
            return {self.panel.note: note(str(error))}
        now = self.canvas.look(visitor, mine)
        return {self.panel.note: note(), self.canvas.mine: mine, self.canvas.wanted: "", **now}


def _is_slip(request: Request, job: Job) -> bool:
    """Whether a job was asked for just now, by the same wish: a click that became two."""
    names = ("operation", "prompt", "negative_prompt", "count", "options", "settings", "model", "runtime", "adapters")
    same = all(getattr(request, name) == getattr(job.request, name) for name in names)
    return same and not job.over and job.peek().seconds < _TWICE

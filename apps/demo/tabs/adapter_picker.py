"""Choosing styles: chips with what each looks like, and how strongly each counts. Several at once."""

from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from amused_lite.adapters.file import load_record

from ..app_state import AppState
from .events import TICKED, ticked

MOST = 4  # at once


class AdapterPicker:
    """A chip for each style there is, and a slider for each that is chosen."""

    def __init__(self, app_state: AppState) -> None:
        self._app_state = app_state
        self.names = gr.State([])
        self.chips = gr.HTML(self._chips([]), js_on_load=TICKED, elem_id="own-styles", padding=False)
        with gr.Row():
            self.weights = [gr.Slider(-1, 2, 1, step=0.05, label=f"Style {k + 1}", visible=False) for k in range(MOST)]
        at_once: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        self.chips.click(self._tick, None, self.outputs, **at_once)
        self.names.change(self._sliders, self.names, self.weights, **at_once)

    @property
    def inputs(self) -> list[Any]:
        """For event handlers; give them to `chosen` as they come."""
        return [self.names, *self.weights]

    @property
    def outputs(self) -> list[Any]:
        """Outputs of `choose`."""
        return [self.names, self.chips]

    def chosen(self, names: list[str] | None = None, *weights: float) -> tuple[tuple[str, float], ...]:
        """As a request has them."""
        return tuple((name, float(weight)) for name, weight in zip(names or [], weights, strict=False))

    def choose(self, names: list[str] | None = None) -> list[Any]:
        """Offer all styles that there are by now, and choose these: outputs are `outputs`."""
        known = self._app_state.engine.model_cache.adapters
        names = [name for name in names or [] if name in known][:MOST]
        return [names, self._chips(names)]

    def _tick(self, event: gr.EventData) -> list[Any]:
        known = list(self._app_state.engine.model_cache.adapters)  # which only grows
        names = [known[number] for number in ticked(event, len(known))]
        return [names, gr.skip()] if len(names) <= MOST else self.choose(names)

    def _chips(self, names: list[str]) -> str:
        """All styles as boxes to tick, as HTML; nothing where there are none."""
        chips = []
        for number, (name, path) in enumerate(self._app_state.engine.model_cache.adapters.items()):
            try:
                seen = load_record(path).thumbnail
            except (OSError, ValueError):  # changed since it was offered; whoever draws with it is told
                seen = ""
            picture = f'<img alt="" loading="lazy" src="styles/{quote(name, safe="")}.png">' if seen else ""
            box = f'<input type="checkbox" value="{number}"{" checked" if name in names else ""}>'
            chips.append(f'<label>{box}{picture}<span class="name">{escape(name)}</span></label>')
        words = f"Your styles, up to {MOST} at once"
        group = f'<div class="gallery-own" role="group" aria-label="{words}">{"".join(chips)}</div>'
        return f'<p class="hint">{words}</p>{group}' if chips else ""

    def _sliders(self, names: list[str] | None) -> list[Any]:
        names = names or []
        return [
            gr.Slider(visible=k < len(names), label=f"Weight of {names[k]}" if k < len(names) else f"Style {k + 1}")
            for k in range(MOST)
        ]

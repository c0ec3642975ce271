"""Choosing styles: which, and how strongly each counts. Several at once."""

from typing import Any

import gradio as gr

from ..app_state import AppState

MOST = 4  # at once


class AdapterPicker:
    """A list of the styles there are, and a slider for each that is chosen."""

    def __init__(self, app_state: AppState) -> None:
        self._desk = app_state
        names = list(app_state.engine.model_cache.adapters)
        self.names = gr.Dropdown(
            names, value=[], multiselect=True, max_choices=MOST, label="Own styles", info="Trained in the tab Styles"
        )
        with gr.Row():
            self.weights = [gr.Slider(-1, 2, 1, step=0.05, label=f"Style {k + 1}", visible=False) for k in range(MOST)]
        self.names.change(
            self._sliders, self.names, self.weights, show_progress="hidden", queue=False, api_visibility="private"
        )

    @property
    def inputs(self) -> list[Any]:
        """For event handlers; give them to `chosen` as they come."""
        return [self.names, *self.weights]

    def chosen(self, names: list[str] | None = None, *weights: float) -> tuple[tuple[str, float], ...]:
        """As a request has them."""
        return tuple((name, float(weight)) for name, weight in zip(names or [], weights, strict=False))

    def offered(self, chosen: list[str] | None = None) -> Any:
        """An update of the list, after a training."""
        known = list(self._desk.engine.model_cache.adapters)
        return gr.Dropdown(known, value=[name for name in chosen or [] if name in known])

    def _sliders(self, names: list[str] | None) -> list[Any]:
        names = names or []
        return [
            gr.Slider(visible=k < len(names), label=f"Weight of {names[k]}" if k < len(names) else f"Style {k + 1}")
            for k in range(MOST)
        ]

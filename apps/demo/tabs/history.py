"""The gallery on disk: search, look, restore, delete; and a dropped PNG restores what it was made with."""

from datetime import datetime
from html import escape
from io import BytesIO
from typing import Any

import gradio as gr

from amused_lite.files.images import open_picture
from amused_lite.files.png import Recipe

from ...engine.history import HistoryEntry
from .. import job_view
from ..app_state import AppState, history_key, page_url
from .events import said

_PAGE = 24
_OFF = "There is none: this session was started with --no-history, and writes nothing."
_CHOOSE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-name]');
  if (!button) return;
  const all = element.querySelectorAll('button[data-name]');
  all.forEach((other) => other.setAttribute('aria-pressed', other === button));
  trigger('click', { name: button.dataset.name });
});
"""


class HistoryTab:
    """Its components; `restored` holds a recipe in a form that the first tab takes."""

    def __init__(self, app_state: AppState) -> None:
        self.app_state = app_state
        self.name = gr.State("")  # of the chosen picture
        self.recipe = gr.State(None)  # JSON of the chosen or dropped picture's recipe
        with gr.Row():
            with gr.Column(scale=3):
                self.search = gr.Textbox(
                    label="Search",
                    placeholder="words of the prompt, a style, a seed, a day such as 2026-05-01",
                    elem_id="search",
                )
                self.gallery = gr.HTML("", js_on_load=_CHOOSE, elem_id="gallery")
                self.more = gr.Button("Show more", visible=False, elem_id="more")
                self.shown = gr.State(_PAGE)
            with gr.Column(scale=2, min_width=300):
                self.drop = gr.File(
                    label="Drop a PNG made here, to get its settings back",
                    file_types=[".png"],
                    height=170,
                    elem_id="drop",
                )
                self.big = gr.HTML("", elem_id="chosen")
                with gr.Row(visible=False, elem_classes="row-tight") as self.actions:
                    self.restore = gr.Button("Restore all settings", variant="primary", elem_id="restore")
                    self.edit = gr.Button("Edit", elem_id="history-edit")
                    self.delete = gr.Button("Delete", elem_id="delete")
                with gr.Row(visible=False, elem_classes="row-tight") as self.confirm:
                    self.yes = gr.Button("Yes, delete it", variant="stop", elem_id="delete-yes")
                    self.no = gr.Button("Keep it", elem_id="delete-no")
        self._connect()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        gallery = [self.gallery, self.more]
        detail = [self.big, self.actions, self.confirm, self.name, self.recipe]
        self.search.change(
            lambda words: [_PAGE, *self.show(words)],
            self.search,
            [self.shown, *gallery],
            trigger_mode="always_last",
            **quiet,
        )
        self.more.click(
            lambda words, shown: [shown + _PAGE, *self.show(words, shown + _PAGE)],
            [self.search, self.shown],
            [self.shown, *gallery],
            **quiet,
        )
        self.gallery.click(self._choose, None, detail, **quiet)
        # gradio would look for the file on the disk
        self.drop.upload(self._dropped, self.drop, detail, preprocess=False, **quiet)
        self.delete.click(
            lambda: [gr.Row(visible=False), gr.Row(visible=True)], None, [self.actions, self.confirm], **quiet
        )
        self.no.click(
            lambda: [gr.Row(visible=True), gr.Row(visible=False)], None, [self.actions, self.confirm], **quiet
        )
        self.yes.click(self._delete, [self.name, self.search, self.shown], [*detail, *gallery], **quiet)

    def show(self, words: str = "", most: int = _PAGE) -> list[Any]:
        """The gallery, and whether there is more."""
        history = self.app_state.history
        if history is None:
            return [job_view.message(_OFF, "calm"), gr.Button(visible=False)]
        found = history.search(words or "", most + 1)
        if not found:
            empty = "Nothing here has these words." if (words or "").strip() else "Pictures you make will appear here."
            return [job_view.message(empty, "calm"), gr.Button(visible=False)]
        tiles = "".join(self._tile(entry) for entry in found[:most])
        group = f'<div class="gallery-own" role="group" aria-label="Earlier pictures">{tiles}</div>'
        return [group, gr.Button(visible=len(found) > most)]

    def _tile(self, entry: HistoryEntry) -> str:
        said = escape(entry.prompt[:200])
        key = history_key(entry.name)
        picture = f'<img loading="lazy" alt="" src="history/{escape(entry.name, quote=True)}/small.jpeg">'
        picture = job_view.veiled(picture, self.app_state.flagged.get(key))
        label = escape(f"{entry.prompt[:200]}, {entry.operation}, seed {entry.seed}", quote=True)
        name = escape(entry.name, quote=True)
        return (
            f'<button type="button" data-name="{name}" aria-pressed="false" aria-label="{label}">'
            f'{picture}<span class="name">{said}</span></button>'
        )

    def _choose(self, event: gr.EventData) -> list[Any]:
        name = str(said(event, "name"))
        assert self.app_state.history is not None
        try:
            recipe = self.app_state.history.recipe(name)
        except (OSError, ValueError) as error:
            return [job_view.message(str(error)), gr.Row(visible=False), gr.Row(visible=False), "", None]
        url = page_url(history_key(name))
        created = datetime.fromtimestamp(self.app_state.history.path(name).stat().st_mtime)
        picture = f'<img alt="{escape(recipe.prompt[:200], quote=True)}" src="{url}">'
        html = f'<div class="big">{picture}{_facts(recipe, f"{created:%Y-%m-%d %H:%M}")}{_link(url, name)}</div>'
        return [html, gr.Row(visible=True), gr.Row(visible=False), name, recipe.to_json()]

    def _dropped(self, file: dict[str, Any] | None) -> list[Any]:
        """A file from anywhere: its recipe, if it has one."""
        hidden = gr.Row(visible=False)
        try:
            source = open_picture(BytesIO(self.app_state.uploaded(file)))
        except ValueError as error:
            return [job_view.message(str(error)), hidden, hidden, "", None]
        if source.recipe is None:
            text = "This picture holds no recipe: another program made it, or saved it. You can open it under Edit."
            return [job_view.message(text), hidden, hidden, "", None]
        picture = f'<img alt="The dropped picture" src="{job_view.data_url(source.image)}">'
        html = f'<div class="big">{picture}{_facts(source.recipe, "dropped just now")}</div>'
        return [html, gr.Row(visible=True), hidden, "", source.recipe.to_json()]

    def _delete(self, name: str, words: str, shown: int) -> list[Any]:
        hidden = gr.Row(visible=False)
        try:
            if self.app_state.history is None or not name:
                raise ValueError("this picture is not one of the history, so there is nothing to delete")
            self.app_state.history.delete(name)
            html = job_view.message("Deleted.", "calm")
        except (OSError, ValueError) as error:
            html = job_view.message(str(error))
        return [html, hidden, hidden, "", None, *self.show(words, shown)]


def _facts(recipe: Recipe, when: str) -> str:
    facts = {
        "Prompt": recipe.prompt,
        "Keep away from": recipe.negative_prompt,
        "Made by": recipe.edit.operation if recipe.edit else "generate",
        "Seed": f"{recipe.seed}, picture {recipe.picture}",
        "Steps": f"{recipe.steps}" + (f", stopped after {recipe.stopped_after}" if recipe.stopped_after else ""),
        "Guidance": f"{recipe.guidance_scale:g}",
        "Size": f"{recipe.width} x {recipe.height}",
        "Model": f"{recipe.model} on {recipe.runtime}",
        "Styles": ", ".join(recipe.adapters),
        "When": when,
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value)
    return f'<dl class="facts">{rows}</dl>'


def _link(url: str, name: str) -> str:
    return f'<p class="foot"><a href="{url}" download="{escape(name, quote=True)}">Save a copy</a></p>'

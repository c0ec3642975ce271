"""The gallery on disk: search, look, restore, delete and undo it; a dropped PNG restores what it was made with.

Each picture has an address, #history/NAME: a tile is a link to it, so Back, a bookmark and a second window lead there.
"""

from datetime import datetime
from html import escape
from io import BytesIO
from typing import Any
from urllib.parse import quote

import gradio as gr

from amused_lite.files.images import open_picture
from amused_lite.files.png import Recipe

from ...engine.history import Deleted, HistoryEntry
from .. import job_view
from ..app_state import AppState, history_key, page_url
from .events import said

_PAGE = 24
_OFF = "There is none: this session was started with --no-history, and writes nothing."
_ADDRESS = """
const chosen = () => {
  const [place, name] = location.hash.slice(1).split('/');
  if (place === 'history' && name) trigger('click', { name: decodeURIComponent(name) });
};
window.addEventListener('hashchange', chosen);
document.addEventListener('click', (event) => {  // the address is there already
  if (event.target.closest('#gallery a')?.hash === location.hash) chosen();
});
setTimeout(chosen);
"""


class HistoryTab:
    """Its components; `recipe` holds one in a form that the first tab takes."""

    def __init__(self, app_state: AppState) -> None:
        self.app_state = app_state
        self._deleted = gr.State(None)  # key of the upload that holds it, name and time
        self.name = gr.State("")  # of the chosen picture
        self.recipe = gr.State(None)  # JSON of the chosen or dropped picture's recipe
        with gr.Row():
            with gr.Column(scale=3):
                self.search = gr.Textbox(
                    label="Search",
                    placeholder="words of the prompt, a style, a seed, a day such as 2026-05-01",
                    elem_id="search",
                )
                self.gallery = gr.HTML("", elem_id="gallery")
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
                self.undo = gr.Button("Undo delete", visible=False, elem_id="undo-delete")
        self._connect()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        gallery = [self.gallery, self.more]
        detail = self.detail = [self.big, self.actions, self.undo, self.name, self.recipe]
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
        # gradio would look for the file on the disk
        self.drop.upload(self._dropped, self.drop, detail, preprocess=False, **quiet)
        removed = [*detail, self._deleted, *gallery]
        self.delete.click(self._delete, [self.name, self.search, self.shown], removed, **quiet)
        self.undo.click(self._put_back, [self._deleted, self.search, self.shown], removed, **quiet)

    def show(self, words: str = "", most: int = _PAGE) -> list[Any]:
        """The gallery, and whether there is more."""
        history = self.app_state.history
        if history is None:
            return [job_view.message(_OFF, "calm"), gr.Button(visible=False)]
        found = history.search(words or "")
        if not found:
            empty = "Nothing here has these words." if (words or "").strip() else "Pictures you make will appear here."
            return [job_view.message(empty, "calm"), gr.Button(visible=False)]
        tiles = "".join(self._tile(entry) for entry in found[:most])
        group = f'<div class="gallery-own" role="group" aria-label="Earlier pictures">{tiles}</div>'
        return [
            _summary(found, history.archived(words or ""), words or "") + group,
            gr.Button(visible=len(found) > most),
        ]

    def _tile(self, entry: HistoryEntry) -> str:
        said = escape(entry.prompt[:200])
        key = history_key(entry.name)
        picture = f'<img loading="lazy" alt="" src="history/{escape(entry.name, quote=True)}/small.jpeg">'
        picture = job_view.veiled(picture, self.app_state.flagged.get(key))
        label = escape(f"{entry.prompt[:200]}, {entry.operation}, seed {entry.seed}", quote=True)
        return (
            f'<a href="#history/{quote(entry.name)}" aria-label="{label}">{picture}<span class="name">{said}</span></a>'
        )

    def choose(self, event: gr.EventData) -> list[Any]:
        """Show what the address names: outputs are `detail` and the tabs."""
        return [*self._chosen(str(said(event, "name"))), gr.Tabs(selected="history")]

    def _chosen(self, name: str) -> list[Any]:
        try:
            if self.app_state.history is None:
                raise ValueError(_OFF)
            recipe = self.app_state.history.recipe(name)
        except (OSError, ValueError) as error:
            return [job_view.message(str(error)), *_no_picture()]
        url = page_url(history_key(name))
        created = datetime.fromtimestamp(self.app_state.history.path(name).stat().st_mtime)
        picture = f'<img alt="{escape(recipe.prompt[:200], quote=True)}" src="{url}">'
        mark = (
            f'<style>#gallery a[href="#history/{quote(name)}"] {{ box-shadow: 0 0 0 3px var(--color-accent) }}</style>'
        )
        facts = _facts(recipe, f"{created:%Y-%m-%d %H:%M}")
        html = f'{mark}<div class="big">{picture}{facts}{_link(url, name)}</div>'
        return [html, gr.Row(visible=True), gr.Button(visible=False), name, recipe.to_json()]

    def _dropped(self, file: dict[str, Any] | None) -> list[Any]:
        """A file from anywhere: its recipe, if it has one."""
        try:
            source = open_picture(BytesIO(self.app_state.uploaded(file)))
        except ValueError as error:
            return [job_view.message(str(error)), *_no_picture()]
        if source.recipe is None:
            text = "This picture holds no recipe: another program made it, or saved it. Open a picture still takes it."
            return [job_view.message(text), *_no_picture()]
        picture = f'<img alt="The dropped picture" src="{job_view.data_url(source.image)}">'
        html = f'<div class="big">{picture}{_facts(source.recipe, "dropped just now")}</div>'
        return [html, gr.Row(visible=True), gr.Button(visible=False), "", source.recipe.to_json()]

    def _delete(self, name: str, words: str, shown: int) -> list[Any]:
        """Gone from the disk at once; only memory still has it, for the one who changes their mind."""
        try:
            if self.app_state.history is None or not name:
                raise ValueError("this picture is not one of the history, so there is nothing to delete")
            deleted = self.app_state.history.delete(name)
        except (OSError, ValueError) as error:
            return [job_view.message(str(error)), *_no_picture(), None, *self.show(words, shown)]
        kept = self.app_state.uploads.keep(deleted.data), deleted.name, deleted.created
        gone = job_view.message("Deleted.", "calm")
        return [gone, gr.Row(visible=False), gr.Button(visible=True), "", None, kept, *self.show(words, shown)]

    def _put_back(self, kept: tuple[str, str, float] | None, words: str, shown: int) -> list[Any]:
        try:
            if self.app_state.history is None or kept is None:
                raise ValueError("there is no deleted picture to put back")
            key, name, created = kept
            path = self.app_state.history.put_back(Deleted(name, created, self.app_state.uploads.open(key).data))
        except (OSError, ValueError) as error:
            return [job_view.message(str(error)), *_no_picture(), None, *self.show(words, shown)]
        return [*self._chosen(path.name), None, *self.show(words, shown)]


def _no_picture() -> list[Any]:
    """`detail` after its first part, where there is none to act on."""
    return [gr.Row(visible=False), gr.Button(visible=False), "", None]


def address_of_picture() -> gr.HTML:
    """Whose click says that the page's address names a picture; it lies outside the tab, which may never be opened."""
    return gr.HTML("", js_on_load=_ADDRESS, elem_id="address", elem_classes="sr")


def _summary(found: list[HistoryEntry], archived: list[HistoryEntry], words: str) -> str:
    """How many there are, and a link to them as one file."""
    many = f"{len(found)} picture{'s' * (len(found) != 1)}"
    which = "them" if len(archived) == len(found) else f"the latest {len(archived)}"
    size = f"{sum(entry.size for entry in archived) / 1e6:.1f} MB"
    link = f'<a href="history.zip?words={quote(words)}" download>Save {which} as a ZIP file</a>'
    return f'<p class="foot">{many}. {link} ({size})</p>'


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

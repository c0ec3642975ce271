"""The browser page: a picture and what can be done with it, and all else behind tabs. On the server's engine.

app_state = AppState(engine, styles=folder)
app = mount(build_app(engine, access), app_state)
"""

import os
from contextlib import suppress
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio reads them

import gradio as gr
from fastapi import FastAPI
from starlette.middleware import Middleware

from . import routes, theme
from .app_state import AppState, history_key
from .gate import Gate, fetch_nothing
from .tabs.history import HistoryTab, address_of_picture
from .tabs.models import ModelsTab
from .tabs.modes import Modes
from .tabs.responsible import ResponsibleTab
from .tabs.styles import StylesTab

MOST_TABS = 256  # of browsers, whose states are remembered; the one that was used longest ago is forgotten
_SHADE = """
element.querySelector('button').addEventListener('click', () => {
  const dark = document.body.classList.toggle('dark');
  localStorage.setItem('amused-shade', dark ? 'dark' : 'light');
});
"""


_PHONE = ' · <a href="phone-code" target="_blank">on a phone</a>'


def build_page(app_state: AppState, has_phone: bool = False) -> gr.Blocks:
    """All tabs, and what connects them; a link where there is a page for phones."""
    with gr.Blocks(title="amused-lite", analytics_enabled=False) as page:
        with gr.Row(elem_id="top"):
            where = f"on this machine{_PHONE if has_phone else ''}"
            gr.HTML(f"<h1>amused-lite</h1><p>Pictures from words, {where}</p>", elem_id="brand")
            private = gr.Checkbox(
                app_state.history is None,
                label="Write nothing to the disk",
                elem_id="private",
                container=False,
                interactive=app_state.history is not None,
            )
            gr.HTML('<button type="button">Light or dark</button>', js_on_load=_SHADE, elem_id="shade")
        visitor = gr.BrowserState("", storage_key="amused-visitor", secret="")
        address = address_of_picture()
        with gr.Tabs(selected="create", elem_id="tabs") as tabs:
            with gr.Tab("Create", id="create"):
                modes = Modes(app_state, visitor, private)
            with gr.Tab("Styles", id="styles"):
                styles = StylesTab(app_state, visitor, [modes.draw.panel.adapters], private)
            with gr.Tab("History", id="history") as history_tab:
                history = HistoryTab(app_state)
            with gr.Tab("Models", id="models") as models_tab:
                models = ModelsTab(app_state, private, modes.draw.panel.model)
            with gr.Tab("Responsible use", id="responsible"):
                ResponsibleTab(app_state)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        draw, panel = modes.draw, modes.draw.panel
        page.load(draw.arrive, draw.arriving, draw.arrived, queue=False, **quiet)
        page.load(styles.rejoin, styles.rejoining, styles.outputs, **quiet)
        page.load(models.known, None, panel.model, queue=False, **quiet)
        models_tab.select(models.refresh, None, models.outputs, **quiet)
        models.use.click(
            lambda name: [models.choose(name), gr.Tabs(selected="create")], models.choice, [panel.model, tabs], **quiet
        )
        history.edit.click(
            lambda name: modes.edit_picture(history_key(name)) | {tabs: gr.Tabs(selected="create")},
            history.name,
            [*modes.edited, tabs],
            **quiet,
        )
        address.click(history.choose, None, [*history.detail, tabs], **quiet)
        history_tab.select(history.show, [history.search, history.shown], [history.gallery, history.more], **quiet)
        history.restore.click(
            lambda recipe: [*panel.restore(recipe), gr.Tabs(selected="create") if recipe else gr.skip()],
            history.recipe,
            [*panel.restored, tabs],
            **quiet,
        )
        private.change(
            lambda *values: _keep_private(app_state, *values),
            [private, draw.canvas.mine, modes.edit.job],
            None,
            queue=False,
            **quiet,
        )
    page.queue(max_size=64, api_open=False)
    page.state_session_capacity = MOST_TABS  # otherwise only its own launch sets this, to 10,000
    return page


def _keep_private(app_state: AppState, private: bool, mine: list[str], edited: str) -> None:
    """Take back, when the box is ticked, that the pictures which this page has under way are kept."""
    for id in [*mine, edited] if private else ():
        with suppress(KeyError):  # there is none, or it was forgotten
            job = app_state.engine.job(id)
            job.keep = False
            if app_state.journal is not None and not job.over:
                app_state.journal.forget(id)


def mount(app: FastAPI, app_state: AppState, has_phone: bool = False) -> FastAPI:
    """Put the page in front of the server's endpoints."""
    app.include_router(routes.make_router(app_state))
    os.environ["GRADIO_TEMP_DIR"] = str(app_state.uploads.folder)  # which is not there
    fetch_nothing()
    page = build_page(app_state, has_phone)
    page.has_launched = True  # or gradio checks no path: only its own launch sets this, and mounting does not
    events = {number: len(event.inputs) for number, event in page.fns.items()}
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=theme.make_theme(),
        css=theme.CSS,
        js=theme.JS,
        head=theme.HEAD,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        show_error=True,
        max_file_size="32mb",
        server_name="127.0.0.1",
        app_kwargs={"middleware": [Middleware(Gate, uploads=app_state.uploads, events=events)]},
    )

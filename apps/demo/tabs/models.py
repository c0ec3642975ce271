"""Models: what is installed, and a published one made ready from its name, while pictures go on being drawn."""

import ipaddress
import sys
import threading
import time
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from amused_lite.installed import installed_models
from amused_lite.prepare.plan import Plan, ReadyError, make_plan
from amused_lite.runtimes.open import BUNDLED, find_model, is_hub_id
from amused_lite.vocabulary import COLOURS, PLACES, THINGS, Vocabulary

from ...engine.model_cache import ModelKey
from .. import job_view
from ..app_state import AppState
from ..learning import Training

PUBLISHED = "amused/amused-512"
_NAMED = 6  # things of the bundled model that are named
_LOOK = 0.25  # s between two looks at the process


class ModelsTab:
    """The tab's components; `chosen` is the model to draw with next."""

    def __init__(self, app_state: AppState, private: gr.Checkbox, picker: gr.Dropdown) -> None:
        """`private` is ticked where nothing may be written; `picker` is where the model to draw with is chosen."""
        self.app_state, self.picker = app_state, picker
        self._pull: Training | None = None
        self._plan: Plan | None = None  # of `_pull`
        self._lock = threading.Lock()
        with gr.Column(elem_classes="reading"):
            gr.Markdown(about_bundled())
            self.here = gr.HTML(self._table(), elem_id="models-here")
            with gr.Row(elem_classes="row-tight"):
                self.choice = gr.Dropdown(self._names(), value=self._names()[0], label="Installed models")
                self.use = gr.Button("Draw with it", elem_id="models-use")
            gr.Markdown("**Get another.** It is downloaded once, and made small and fast for this machine.")
            with gr.Row(elem_classes="row-tight"):
                self.wanted = gr.Textbox(PUBLISHED, label="Name on the Hugging Face hub", elem_id="models-wanted")
                self.ask = gr.Button("What does it take?", elem_id="models-ask")
            self.stage = gr.HTML("", elem_id="models-stage")
            with gr.Row(elem_classes="row-tight"):
                self.get = gr.Button("Get it", variant="primary", visible=False, elem_id="models-get")
                self.stop = gr.Button("Stop", visible=False, elem_id="models-stop")
        self.asked = gr.State("")  # the name whose plan is shown
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        self.outputs = [self.stage, self.here, self.choice, picker, self.asked, self.get, self.stop]
        self.ask.click(self._ask, [self.wanted, private], self.outputs, **quiet)
        self.get.click(self._get, [self.asked, private], self.outputs, **quiet)
        self.stop.click(self._stop, None, None, queue=False, **quiet)

    def refresh(self) -> Iterator[dict[Any, Any]]:
        """What is here now, and how it goes with the one that is being prepared."""
        yield self._offered()
        if self._pull is not None and not self._pull.ended():
            yield from self._follow(self._pull)

    def known(self) -> Any:
        """The models that a page which is loaded now may draw with."""
        return gr.Dropdown(list(self.app_state.engine.model_cache.models))

    def choose(self, name: str) -> Any:
        """Draw with an installed model from now on.

        Raises:
            gr.Error: it is not installed.
        """
        offered = self.app_state.engine.model_cache
        if name not in offered.models:
            if name not in {item.source.model for item in installed_models()}:
                raise gr.Error("this model is not installed; reload the page", print_exception=False)
            name = offered.offer_model(name)
        return gr.Dropdown(list(offered.models), value=name)

    def _ask(self, name: str, private: bool, request: gr.Request) -> dict[Any, Any]:
        """The plan, before anything is downloaded."""
        hidden = {self.get: gr.Button(visible=False)}
        try:
            self._check_may_pull(name, private, request)
            plan = make_plan(name)
        except ReadyError:
            return {self.stage: job_view.message(f"{name} needs no preparing: start with -m {name}", "calm"), **hidden}
        except (ValueError, OSError, ImportError) as error:
            return {self.stage: job_view.message(_sentence(str(error))), **hidden}
        if plan.is_done:
            return {self.stage: job_view.message(f"{name} is installed already", "calm"), **hidden}
        return {self.stage: show_plan(plan), self.asked: name, self.get: gr.Button(f"Get {name}", visible=True)}

    def _get(self, name: str, private: bool, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Prepare it in a process of its own; one at a time."""
        try:
            self._check_may_pull(name, private, request)
            with self._lock:
                if self._pull is None or self._pull.ended():
                    plan = make_plan(name)
                    command = [sys.executable, "-m", "amused_lite.apps.engine.pull_process", name]
                    threads = self.app_state.threads
                    self._pull = Training([*command, *([str(threads)] if threads else [])], plan.place, "")
                    self.app_state.children.append(self._pull.process)
                    self._plan = plan
        except (ValueError, OSError, ImportError) as error:
            yield {self.stage: job_view.message(_sentence(str(error))), self.get: gr.Button(visible=False)}
            return
        yield from self._follow(self._pull)

    def _follow(self, pull: Training) -> Iterator[dict[Any, Any]]:
        yield {self.get: gr.Button(visible=False), self.stop: gr.Button(visible=True), self.stage: _progress(pull)}
        seen = -1
        while not pull.ended():
            if pull.version != seen:
                seen = pull.version
                yield {self.stage: _progress(pull)}
            time.sleep(_LOOK)
        name = self._plan.model if self._plan else ""
        shown = {self.stop: gr.Button(visible=False)}
        if pull.last["state"] == "done":
            cache = self.app_state.engine.model_cache
            if name in cache.models:  # where it was opened as it was published, it is opened anew
                self.app_state.engine.call(lambda amused: cache.forget(ModelKey(name)))
            name = cache.offer_model(name)
            said = job_view.message(f"{name} is ready. Draw with it, here or under Create, Options, Model.", "calm")
            yield {**shown, **self._offered(name), self.stage: said}
            return
        said = "Stopped. What has arrived is kept, and the same button goes on from there."
        failed = pull.last.get("error")
        text = job_view.message(_sentence(failed)) if failed else job_view.message(said, "calm")
        yield {**shown, self.stage: text, self.get: gr.Button(visible=True)}

    def _stop(self) -> None:
        if self._pull is not None:
            self._pull.stop()

    def _check_may_pull(self, name: str, private: bool, request: gr.Request) -> None:
        """
        Raises:
            ValueError: it is no name on the hub, nothing may be written, or whoever asks sits elsewhere.
        """
        if not is_hub_id(name):
            raise ValueError(f"give a name on the hub, such as {PUBLISHED}; folders: amused-lite pull FOLDER")
        if self.app_state.history is None:
            raise ValueError("this writes files, and the server was started with --no-history")
        if private:
            raise ValueError("this writes files; untick Write nothing to the disk first")
        if not is_here(request):
            raise ValueError(f"models are got on the machine that serves this page: amused-lite pull {name}")

    def _names(self) -> list[str]:
        return list(
            dict.fromkeys([*self.app_state.engine.model_cache.models, *(i.source.model for i in installed_models())])
        )

    def _offered(self, chosen: str | None = None) -> dict[Any, Any]:
        """Table and lists as they are now, with a model that has just come."""
        value: dict[str, Any] = {} if chosen is None else {"value": chosen}
        known = {self.picker: self.known()} if chosen else {}
        return {self.here: self._table(), self.choice: gr.Dropdown(self._names(), **value), **known}

    def _table(self) -> str:
        offered = self.app_state.engine.model_cache.models
        rows = [(name, "ready" if name == BUNDLED else "opened as it is", "") for name in offered]
        prepared = {item.source.model: item for item in reversed(installed_models())}
        rows = [row for row in rows if row[0] not in prepared]
        for item in prepared.values():
            used = time.strftime("%d %B %Y", time.localtime(item.last_use))
            rows.append((item.source.model, f"prepared, {item.scheme}, {item.size / 1e6:.0f} MB", f"last used {used}"))
        cells = "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(', '.join(filter(None, said)))}</dd>" for name, *said in rows
        )
        return f'<dl class="facts">{cells}</dl>'


def about_bundled() -> str:
    """What the bundled model can draw and what it cannot, as Markdown."""
    known = Vocabulary.of(find_model(BUNDLED))
    if known is None:
        return f"**{BUNDLED}** came with the program."
    things = known.offered(THINGS)
    more = f" and {len(things) - _NAMED} other things" if len(things) > _NAMED else ""
    counts = f"{len(known.offered(COLOURS))} colours and {len(known.offered(PLACES))} places"
    drawn = f"{', '.join(things[:_NAMED])}{more}, in {counts}"
    return (
        f"**{BUNDLED}** came with the program. It is small and quick, and draws little scenes: {drawn}. Whatever else "
        f"you name it has never seen and cannot draw. The published models, such as **{PUBLISHED}**, were shown "
        "photographs and paintings of everything; they are larger and slower."
    )


def is_here(request: gr.Request | None) -> bool:
    """Whether whoever asks sits at the machine that serves the page."""
    host = request.client.host if request is not None and request.client is not None else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def show_plan(plan: Plan) -> str:
    """A plan as HTML: its first word, and the rest."""
    pairs = [(line[:10].strip(), line[10:]) for line in plan.lines()]
    return f'<dl class="facts">{"".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in pairs)}</dl>'


def _progress(pull: Training) -> str:
    last = pull.last
    what, share = last.get("what", "looking at what is here"), last.get("share")
    value = "" if share is None else f' value="{share:.3f}"'
    percent = "" if share is None else f"{100 * share:.0f} %"
    return (
        f'<div class="stage" style="height:72px"><div class="bar" style="width:100%">'
        f'<progress max="1"{value} aria-label="Preparing a model"></progress>'
        f"<span>{escape(_sentence(what))}</span><span>{percent}</span></div></div>"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"

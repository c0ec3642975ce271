"""The first tab: a prompt, a button, and pictures that appear while they form. Everything else is folded away."""

import random
from collections.abc import Iterator
from typing import Any

import gradio as gr

from amused_lite.files.png import Recipe
from amused_lite.runtimes.open import BUNDLED
from amused_lite.sampling.settings import SETTINGS, Setting

from ...engine.engine import ClosingError, QueueFullError
from ...engine.jobs import Job
from ...engine.request import Request
from .. import job_view
from ..app_state import AppState, installed_runtimes, missing_runtimes, page_url, presets
from .adapter_picker import AdapterPicker
from .events import said_number

DRAFT_STEPS = 4
SUBTLE, STRONG = 0.3, 0.6  # of the schedule that a variation runs
_NO_PRESET = "None"
_WELCOME = "Say what you would like to see. Pictures are made on this machine and stay here."
_KINDS = ("balloon", "house", "tree", "star", "heart", "boat", "car", "fish", "flower", "mushroom", "cup", "moon")
_COLOURS = ("red", "blue", "green", "yellow", "orange", "purple")
_PLACES = ("in a meadow", "by the sea", "in the desert", "in the snow", "at night", "at sunset")
_WISHES = (
    "a lighthouse on a cliff at dusk",
    "a bowl of lemons on a blue table",
    "a fox in a snowy forest",
    "a small wooden boat on a lake at sunrise",
)
PICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('.pick');
  if (!button) return;
  element.querySelectorAll('.pick').forEach((other) => other.setAttribute('aria-pressed', other === button));
  trigger('click', { index: Number(button.dataset.index) });
});
"""


class CreateTab:
    """Its components; other tabs connect theirs to `chosen`."""

    def __init__(self, app_state: AppState, private: gr.Checkbox) -> None:
        """`private` is ticked where nothing may be written."""
        self.app_state, self._private = app_state, private
        self.job = gr.State("")  # id of the job on the stage
        self.chosen = gr.State("")  # key of the picked picture
        with gr.Row(elem_id="ask"):
            self.prompt = gr.Textbox(
                label="What shall the picture show?",
                placeholder="a red balloon above a blue house",
                lines=2,
                max_lines=5,
                autofocus=True,
                scale=5,
                elem_id="prompt",
                container=False,
                html_attributes=gr.InputHTMLAttributes(enterkeyhint="go"),
            )
            with gr.Column(scale=1, min_width=150, elem_id="go-column"):
                self.go = gr.Button("Create", variant="primary", elem_id="go")
                self.stop = gr.Button("Stop here", visible=False, elem_id="stop")
                self.cancel = gr.Button("Cancel", visible=False, elem_id="cancel")
        self._build_options()
        self.said = gr.HTML("", elem_classes="sr", elem_id="said")
        self.stage = gr.HTML(job_view.message(_WELCOME, "calm"), js_on_load=PICK, elem_id="stage")
        with gr.Row(visible=False, elem_classes="row-tight", elem_id="next") as self.next:
            self.finish = gr.Button("Finish this draft", variant="primary", visible=False, elem_id="finish")
            self.subtle = gr.Button("Vary subtly", elem_id="subtle")
            self.strong = gr.Button("Vary strongly", elem_id="strong")
            self.reroll = gr.Button("Redo weak spots", elem_id="reroll")
            self.edit = gr.Button("Edit", elem_id="to-edit")
            self.to_trace = gr.Button("Look inside", elem_id="to-look")
        self.save = gr.HTML("", elem_id="save")
        self._connect()

    def _build_options(self) -> None:
        models = list(self.app_state.engine.model_cache.models)
        with gr.Accordion("Options", open=False, elem_id="options"):
            with gr.Row():
                self.count = gr.Radio([("One picture", 1), ("Four to pick from", 4)], value=4, label="How many")
                names = [_NO_PRESET, *presets(models[0])]
                self.preset = gr.Radio(names, value=_NO_PRESET, label="Drawing style")
            self.negative = gr.Textbox(
                label="Keep away from", placeholder="what the picture should not show", max_lines=3
            )
            with gr.Row():
                self.sliders = {name: slider_for(one) for name, one in SETTINGS.items() if one.slider}
                self.steps = self.sliders["steps"]
            with gr.Row():
                self.seed = gr.Number(None, label="Seed", precision=0, info="Of the latest pictures; yours to change")
                self.lock = gr.Checkbox(
                    False, label="Keep this seed", min_width=220, info="The same words then give the same picture"
                )
                self.drafts = gr.Checkbox(
                    False,
                    label="Drafts first",
                    min_width=220,
                    info=f"{DRAFT_STEPS} steps each; finish the one you like",
                )
            with gr.Row():
                self.model = gr.Dropdown(models, value=models[0], label="Model")
                runtimes = installed_runtimes()
                missing = missing_runtimes()
                self.runtime = gr.Dropdown(
                    runtimes, value="auto", label="Engine", info=missing or "All engines are installed"
                )
            self.adapters = AdapterPicker(self.app_state)
            self.surprise = gr.Button("Surprise me with a prompt", elem_id="surprise")

    # What a person does

    def _connect(self) -> None:
        inputs: list[Any] = [self.prompt, self.preset, self.negative, self.count, self.seed, self.lock]
        how = [self._private, self.model, self.runtime, *self.adapters.inputs]
        inputs += [self.drafts, *self.sliders.values(), *how]
        outputs = [self.stage, self.said, self.job, self.chosen, self.go, self.stop, self.cancel, self.next]
        outputs += [self.finish, self.seed, self.save]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        gr.on([self.go.click, self.prompt.submit], self._create, inputs, outputs, concurrency_limit=8, **quiet)
        at_once = {**quiet, "queue": False}
        self.cancel.click(lambda id: self._end(id, self.app_state.engine.cancel), self.job, None, **at_once)
        self.stop.click(lambda id: self._end(id, self.app_state.engine.stop), self.job, None, **at_once)
        self.stage.click(self._pick, self.job, [self.chosen, self.save], **at_once)
        for button, operation, settings in (
            (self.subtle, "vary", {"strength": SUBTLE}),
            (self.strong, "vary", {"strength": STRONG}),
            (self.reroll, "reroll", {}),
        ):
            inputs = [self.chosen, self.count, *how]
            button.click(self._again(operation, settings), inputs, outputs, concurrency_limit=8, **quiet)
        self.finish.click(self._finish, [self.chosen, self.steps, *how], outputs, concurrency_limit=8, **quiet)
        self.model.change(self._presets, self.model, self.preset, **at_once)
        self.surprise.click(self._surprise, self.model, self.prompt, **at_once)

    def _create(
        self,
        prompt: str,
        preset: str,
        negative: str,
        count: int,
        seed: int | None,
        lock: bool,
        drafts: bool,
        *rest: Any,
    ) -> Iterator[list[Any]]:
        slid, how = rest[: len(self.sliders)], rest[len(self.sliders) :]
        options = {name: SETTINGS[name].kind(value) for name, value in zip(self.sliders, slid, strict=True) if value}
        if drafts:
            options["steps"] = DRAFT_STEPS
        words, means = (prompt or "").strip(), self._how(*how)
        phrase = presets(means["model"]).get(preset, "")
        fields = {
            "prompt": words + phrase if words and phrase.strip(", ") not in words else words,
            "negative_prompt": negative or "",
            "seed": int(seed) if lock and seed is not None else None,
            "count": int(count or 1),
            "options": options,
            **means,
        }
        yield from self._draw(fields, drafts)

    def _how(self, private: bool, model: str, runtime: str, *adapters: Any) -> dict[str, Any]:
        """What every request of this tab says."""
        chosen = self.adapters.chosen(*adapters)
        return {"model": model, "runtime": runtime, "adapters": chosen, "keep": not private}

    def _again(self, operation: str, settings: dict[str, Any]) -> Any:
        def draw(chosen: str, count: int, *how: Any) -> Iterator[list[Any]]:
            yield from self._draw(
                {
                    "operation": operation,
                    "settings": settings,
                    "source": lambda: self.app_state.source(chosen),
                    "count": int(count or 1),
                    **self._how(*how),
                }
            )

        return draw

    def _finish(self, chosen: str, steps: int, *how: Any) -> Iterator[list[Any]]:
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
                "options": options,
                **self._how(*how),
            }

        yield from self._draw(fields)

    def _draw(self, fields: Any, drafts: bool = False) -> Iterator[list[Any]]:
        """Run one job on the stage."""
        skip = gr.skip()
        try:
            made: Any = fields() if callable(fields) else fields
            values: dict[str, Any] = dict(made)
            if callable(values.get("source")):
                values["source"] = values["source"]()
            job = self.app_state.engine.submit(Request(**values), "page")
        except (ValueError, QueueFullError, ClosingError) as error:
            text = f"{str(error)[:1].upper()}{str(error)[1:]}"
            yield [job_view.message(text), text, *[skip] * 9]
            return
        first = True
        for html, _ in job_view.follow(self.app_state, job):
            if job.over:
                break
            start = [job.id, "", gr.Button(visible=False), gr.Button(visible=True), gr.Button(visible=True)]
            start.append(gr.Row(visible=False))
            yield [
                html,
                "Drawing" if first else skip,
                *(start if first else [skip] * 6),
                skip,
                skip,
                "" if first else skip,
            ]
            first = False
        yield self._ended(job, drafts)

    def _ended(self, job: Job, drafts: bool) -> list[Any]:
        keys = job_view.keys_of(job)
        failed = job_view.failure(job)
        kind = "calm" if job.state == "cancelled" else "error"
        html = job_view.message(failed, kind) if failed else job_view.show_job(self.app_state, job, job.progress())
        said = failed or f"Done: {len(keys)} picture{'s' if len(keys) != 1 else ''}"
        chosen = keys[0] if keys else ""
        return [
            html,
            said,
            job.id,
            chosen,
            gr.Button(visible=True),
            gr.Button(visible=False),
            gr.Button(visible=False),
            gr.Row(visible=bool(keys)),
            gr.Button(visible=drafts and bool(keys)),
            job.request.seed,
            save_link(self.app_state, chosen),
        ]

    @property
    def restored(self) -> list[Any]:
        """Outputs of `restore`, before the tabs."""
        return [
            self.prompt,
            self.preset,
            self.negative,
            self.count,
            self.seed,
            self.lock,
            self.drafts,
            *self.sliders.values(),
            self.model,
            self.adapters.names,
            self.stage,
        ]

    def restore(self, text: str | None) -> list[Any]:
        """All settings of a recipe, ready to be drawn again or changed; and the first tab."""
        skip = gr.skip()
        if not text:
            return [*[skip] * len(self.restored), skip]
        recipe = Recipe.from_json(text)
        names = [style.partition(":")[0] for style in recipe.adapters]
        known = [name for name in names if name in self.app_state.engine.model_cache.adapters]
        model = recipe.model if recipe.model in self.app_state.engine.model_cache.models else skip
        notes = []
        if recipe.edit is not None:
            notes.append(
                f"It was made by {recipe.edit.operation} from another picture; its words and numbers are restored."
            )
        if recipe.picture:
            notes.append(f"It is picture {recipe.picture + 1} of its seed, so four are drawn.")
        if len(known) < len(names):
            notes.append("A style it used is not here.")
        values = {name: getattr(recipe, name) or 0 for name in self.sliders} | {"steps": recipe.steps + recipe.refine}
        note = "Settings restored. " + " ".join(notes) + " Press Create to draw it again."
        return [
            recipe.prompt,
            _NO_PRESET,
            recipe.negative_prompt,
            4 if recipe.picture else 1,
            recipe.seed,
            True,
            False,
            *values.values(),
            model,
            known,
            job_view.message(note, "calm"),
            gr.Tabs(selected="create"),
        ]

    def _pick(self, id: str, event: gr.EventData) -> tuple[str, str]:
        key = f"{id}/{said_number(event, 'index')}"
        return key, save_link(self.app_state, key)

    def _end(self, id: str, how: Any) -> None:
        try:
            how(self.app_state.engine.job(id))
        except KeyError:
            pass

    def _presets(self, model: str) -> Any:
        return gr.Radio([_NO_PRESET, *presets(model)], value=_NO_PRESET)

    def _surprise(self, model: str) -> str:
        if model != BUNDLED:
            return random.choice(_WISHES)
        (one, two), (kind, other) = random.sample(_COLOURS, 2), random.sample(_KINDS, 2)
        relation = random.choice(("above", "left of", "right of", "below"))
        thing = random.choice((f"a {one} {kind}", f"a {one} {kind} {relation} a {two} {other}"))
        return f"{thing} {random.choice(_PLACES)}".replace("a orange", "an orange")


def slider_for(setting: Setting) -> gr.Slider:
    """The control of a declared setting that has one; at 0 an optional one is left out."""
    assert setting.slider is not None
    label, low, high, step, info = setting.slider
    return gr.Slider(low, high, setting.default or 0, step=step, label=label, info=info)


def save_link(app_state: AppState, key: str) -> str:
    """A link that saves the picked picture with its recipe, and where it was kept already."""
    if not key:
        return ""
    try:
        result = app_state.result(key)
    except ValueError:
        return ""
    name = f"amused-{result.picture.recipe.seed}-{result.picture.recipe.picture}.png"
    kept = f"Kept as {result.saved.name}." if result.saved is not None else "Not kept on the disk."
    return f'<p class="foot"><a href="{page_url(key)}" download="{name}">Save the picture</a> &nbsp; {kept}</p>'

"""The sentence, and all that goes with it: what the model knows, to be tapped, and settings that are folded away."""

from html import escape
from typing import Any

import gradio as gr

from amused_lite.files.png import Recipe
from amused_lite.sampling.settings import SETTINGS, Setting
from amused_lite.vocabulary import OFFERED

from .. import sentence
from ..app_state import AppState, runtime_choices
from .adapter_picker import AdapterPicker
from .canvas import DRAFT_STEPS

_HINT = "Enter draws, Shift and Enter begin a new line. A tap on a word puts it in."


class PromptPanel:
    """Its components; `fields` makes of the values of `inputs` what a `Request` takes."""

    def __init__(self, app_state: AppState, private: gr.Checkbox) -> None:
        """`private` is ticked where nothing may be written."""
        self.app_state, self._private = app_state, private
        self._models = list(app_state.engine.model_cache.models)
        self.prompt = gr.Textbox(
            sentence.EXAMPLE,
            label="What shall the picture show?",
            placeholder="a red balloon above a blue house",
            max_lines=4,
            autofocus=True,
            elem_id="prompt",
            html_attributes=gr.InputHTMLAttributes(enterkeyhint="go"),
        )
        with gr.Row(elem_classes="go-row"):
            self.go = gr.Button("Draw", variant="primary", elem_id="go", scale=2, min_width=100)
            self.stop = gr.Button("Stop", interactive=False, elem_id="stop", scale=1, min_width=70)
            self.cancel = gr.Button("Cancel", interactive=False, elem_id="cancel", scale=1, min_width=70)
        self.note = gr.HTML(note(), elem_id="note", elem_classes="under")
        with gr.Column(elem_id="tools"):
            self.chips = {group: self._chips(group) for group in OFFERED}
            self.adapters = AdapterPicker(self.app_state)
            self.surprise = gr.Button("Surprise me", size="sm", elem_id="surprise")
        with gr.Accordion("Options", open=False, elem_id="options"):
            self._build_options()
        self._connect()

    def _chips(self, group: str, model: str | None = None) -> gr.Dataset:
        offered = sentence.suggested(self.app_state.vocabulary(model or self._models[0])).offered(group)
        return gr.Dataset(
            label=group.capitalize(),
            components=["textbox"],
            samples=[[phrase] for phrase in offered],
            samples_per_page=400,
            layout="gallery",
            visible=bool(offered),
            elem_id=f"chips-{group}",
        )

    def _engines(self, model: str) -> gr.Dropdown:
        """Of those that can run a model, where there is a choice."""
        choices = runtime_choices(self.app_state.engine.model_cache.models[model])
        return gr.Dropdown(choices, value="auto", label="Engine", visible=len(choices) > 2)

    def _build_options(self) -> None:
        self.count = gr.Radio([("One picture", 1), ("Four to pick from", 4)], value=4, label="How many")
        self.negative = gr.Textbox(label="Keep away from", placeholder="what the picture should not show", max_lines=3)
        self.sliders = {name: slider_for(one) for name, one in SETTINGS.items() if one.slider}
        self.steps = self.sliders["steps"]
        self.seed = gr.Number(None, label="Seed", precision=0, info="Of what is on the canvas; yours to change")
        self.lock = gr.Checkbox(False, label="Keep this seed", info="The same words then give the same picture")
        self.drafts = gr.Checkbox(
            False, label="Drafts first", info=f"{DRAFT_STEPS} steps each; finish the one you like", elem_id="drafts"
        )
        self.model = gr.Dropdown(self._models, value=self._models[0], label="Model")
        self.runtime = self._engines(self._models[0])

    def _connect(self) -> None:
        at_once: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        self.model.change(
            lambda model: [self._engines(model), *(self._chips(group, model) for group in OFFERED)],
            self.model,
            [self.runtime, *self.chips.values()],
            **at_once,
        )
        self.surprise.click(lambda model: sentence.surprise(self._known(model)), self.model, self.prompt, **at_once)
        for group, chips in self.chips.items():
            chips.click(
                lambda phrase, said, model, group=group: self._add(group, phrase, said, model),
                [chips, self.prompt, self.model],
                self.prompt,
                **at_once,
            )
        self.prompt.blur(self.remark, [self.prompt, self.model], self.note, **at_once)

    def _known(self, model: str) -> Any:
        return self.app_state.vocabulary(model)

    def _add(self, group: str, phrase: list[str], said: str, model: str) -> Any:
        known = sentence.suggested(self._known(model))
        return sentence.add(said or "", group, phrase[0], known) if phrase[0] in known.offered(group) else gr.skip()

    def remark(self, said: str, model: str) -> str:
        """A line about words that the model was never shown, as HTML, or ""."""
        known = self._known(model)
        return note(known.remark(said or "") if known is not None else "")

    # What a request says

    @property
    def inputs(self) -> list[Any]:
        """For event handlers; give them to `fields` as they come."""
        words = [self.prompt, self.negative, self.count, self.seed, self.lock, self.drafts]
        return [*words, *self.sliders.values(), *self.how]

    @property
    def how(self) -> list[Any]:
        """For handlers that draw from a picture; give them to `how_fields` as they come."""
        return [self._private, self.model, self.runtime, *self.adapters.inputs]

    def fields(
        self, prompt: str, negative: str, count: int, seed: int | None, lock: bool, drafts: bool, *rest: Any
    ) -> dict[str, Any]:
        """
        Raises:
            TypeError, ValueError: a client made something up.
        """
        slid, how = rest[: len(self.sliders)], rest[len(self.sliders) :]
        options = {name: SETTINGS[name].kind(value) for name, value in zip(self.sliders, slid, strict=True) if value}
        if drafts:
            options["steps"] = DRAFT_STEPS
        return {
            "prompt": (prompt or "").strip(),
            "negative_prompt": negative or "",
            "seed": int(seed) if lock and seed is not None else None,
            "count": int(count or 1),
            "options": options,
            **self.how_fields(*how),
        }

    def how_fields(self, private: bool, model: str, runtime: str, *adapters: Any) -> dict[str, Any]:
        """What every request of this tab says."""
        chosen = self.adapters.chosen(*adapters)
        return {"model": model, "runtime": runtime, "adapters": chosen, "keep": not private}

    # What a recipe said

    @property
    def restored(self) -> list[Any]:
        """Outputs of `restore`."""
        words = [self.prompt, self.negative, self.count, self.seed, self.lock, self.drafts]
        return [*words, *self.sliders.values(), self.model, *self.adapters.outputs, self.note]

    def restore(self, text: str | None) -> list[Any]:
        """All settings of a recipe, ready to be drawn again or changed."""
        if not text:
            return [gr.skip()] * len(self.restored)
        recipe = Recipe.from_json(text)
        names = [style.partition(":")[0] for style in recipe.adapters]
        known = [name for name in names if name in self.app_state.engine.model_cache.adapters]
        notes = ["Settings restored."]
        if recipe.edit is not None:
            words = f"It was made by {recipe.edit.operation} from another picture; its words and numbers are restored."
            notes.append(words)
        if recipe.picture:
            notes.append(f"It is picture {recipe.picture + 1} of its seed, so four are drawn.")
        if len(known) < len(names):
            notes.append("A style it used is not here.")
        values = {name: getattr(recipe, name) or 0 for name in self.sliders} | {"steps": recipe.steps + recipe.refine}
        words = [recipe.prompt, recipe.negative_prompt, 4 if recipe.picture else 1, recipe.seed, True, False]
        model = recipe.model if recipe.model in self.app_state.engine.model_cache.models else gr.skip()
        return [*words, *values.values(), model, *self.adapters.choose(known), note(" ".join(notes))]


def slider_for(setting: Setting) -> gr.Slider:
    """The control of a declared setting that has one; at 0 an optional one is left out."""
    assert setting.slider is not None
    label, low, high, step, info = setting.slider
    return gr.Slider(low, high, setting.default or 0, step=step, label=label, info=info)


def note(text: str = "", hint: str = _HINT) -> str:
    """A line below the sentence, as HTML; a hint where there is nothing to say."""
    if not text:
        return f'<p class="note calm">{hint}</p>'
    return f'<p class="note" role="status">{escape(text[:1].upper() + text[1:])}</p>'

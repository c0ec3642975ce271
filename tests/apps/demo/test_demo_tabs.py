"""Handlers of the tabs without a server: what they ask of the engine, and what they show."""

import shutil
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

pytest.importorskip("gradio")

import gradio as gr
from amused_lite.apps.demo.app_state import AppState, runtime_choices, visitor_key
from amused_lite.apps.demo.learning import Training, Trainings
from amused_lite.apps.demo.routes import make_router
from amused_lite.apps.demo.tabs.adapter_picker import AdapterPicker
from amused_lite.apps.demo.tabs.edit import EditMode
from amused_lite.apps.demo.tabs.prompt import PromptPanel
from amused_lite.apps.demo.tabs.styles import StylesTab
from amused_lite.apps.engine.engine import Engine
from amused_lite.apps.engine.history import History

from amused_lite.files.images import SourceImage
from amused_lite.runtimes.open import runtimes_of

_TELLS_AND_WAITS = (
    "import json, sys, time; said = json.load(open(sys.argv[1])); "
    "print(json.dumps({'state': 'opening', 'error': said}), flush=True); time.sleep(600)"
)
_CAUSES_NOTHING = "import json; print(json.dumps({'state': 'cancelled'}))"


@pytest.fixture(scope="module")
def app_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppState]:
    engine = Engine()
    state = AppState(engine, tmp_path_factory.mktemp("styles"))
    yield state
    engine.close()
    state.close()


@pytest.fixture(scope="module")
def tabs(app_state: AppState) -> tuple[PromptPanel, EditMode, StylesTab]:
    with gr.Blocks():
        visitor, private = gr.BrowserState(""), gr.Checkbox()
        panel = PromptPanel(app_state, private)
        return panel, EditMode(app_state, visitor, panel), StylesTab(app_state, visitor, [panel.adapters], private)


def test_an_edit_is_made_with_the_settings_of_the_sentence(tabs: tuple[PromptPanel, EditMode, StylesTab]) -> None:
    _, edit, _ = tabs
    how: list[Any] = [True, "tiny", "onnx", ["look"], 0.5, 1, 1, 1]
    wide = SourceImage(Image.new("RGB", (96, 64)))
    for tool, area in (("Change it by words", "Middle"), ("Replace what I painted", "Left half")):
        request = edit._request(wide, None, tool, "a cup", area, [], 256, True, 4, 5, True, *how)
        assert (request.seed, request.count, request.model, request.runtime) == (5, 4, "tiny", "onnx")
        assert request.adapters == (("look", 0.5),) and not request.keep
        assert request.settings == ({"pad": True} if request.operation == "edit" else {})
        assert isinstance(request.mask, Image.Image) and request.mask.size == (96, 64)
    unlocked = edit._request(wide, None, "Change it by words", "a cup", "Middle", [], 256, False, 1, 5, False, *how)
    assert unlocked.seed is None and unlocked.mask is None


def test_only_engines_that_can_run_a_model_are_offered() -> None:
    names = [name for _, name in runtime_choices("tiny")]
    assert names[:2] == ["auto", "onnx"] and set(names) <= {"auto", "onnx", "torch"}
    assert runtimes_of("amused/amused-512") == ("torch",)  # and nothing is asked of the network


def test_a_training_is_shown_again_to_whom_it_belongs(
    tabs: tuple[PromptPanel, EditMode, StylesTab], tmp_path: Path
) -> None:
    styles, key = tabs[2], visitor_key(None)
    styles.trainings.latest = Training([sys.executable, "-c", _CAUSES_NOTHING], tmp_path / "look.safetensors", key)
    ((stage, *_),) = styles.rejoin(visitor_key(None), [])
    assert not isinstance(stage, str)
    for _ in range(2):  # also when it is over
        *_, (stage, said, *_) = styles.rejoin(key, [])
        assert "nothing was kept" in stage and "nothing was kept" in said


def test_a_training_goes_on_after_a_restart_unless_it_was_stopped(tmp_path: Path) -> None:
    key, asked = visitor_key(None), {"style": "hatched", "prompts": [], "model": "tiny", "threads": 1, "recipe": {}}

    def run() -> tuple[AppState, Trainings]:
        """The server, with a process that tells what it was to do, and then takes its time."""
        state = AppState(Engine(history=History(tmp_path / "history")), tmp_path / "styles")
        trainings = Trainings(state, lambda spec: [sys.executable, "-c", _TELLS_AND_WAITS, str(spec)])
        trainings.take_up()
        return state, trainings

    def end(state: AppState) -> None:
        state.engine.close()
        state.close()

    def told(trainings: Trainings) -> dict[str, Any]:
        assert trainings.latest is not None
        while not trainings.latest.version:
            time.sleep(0.01)
        return trainings.latest.last

    state, trainings = run()
    assert trainings.latest is None
    first = told(trainings) if trainings.begin([(b"the picture", "a cup")], asked, key) else {}
    assert (
        first["error"]["style"] == "hatched" and Path(first["error"]["pictures"][0][0]).read_bytes() == b"the picture"
    )
    with pytest.raises(ValueError, match="already"):
        trainings.begin([(b"", "a cup")], asked, key)
    end(state)
    state, trainings = run()
    assert told(trainings) == first and trainings.latest is not None and trainings.latest.visitor == key
    trainings.stop()
    while not trainings.latest.ended():
        time.sleep(0.01)
    end(state)
    state, trainings = run()
    assert trainings.latest is None
    end(state)


def test_a_visitor_has_a_key_of_the_servers_making() -> None:
    key = visitor_key("")
    assert visitor_key(key) == key and len({visitor_key(bad) for bad in (None, "", 3, [], "x" * 65, "a b" * 9)}) == 6


def test_styles_are_ticked_as_pictures_up_to_four(app_state: AppState, tmp_path: Path) -> None:
    old = Path(__file__).parents[2] / "equality" / "old" / "gold.safetensors"
    names = [f"gold{number}" for number in range(5)] + ["plain & <b>"]
    for name in names:
        app_state.engine.model_cache.offer_adapter(Path(shutil.copy(old, tmp_path / f"{name}.safetensors")))
    (tmp_path / "plain & <b>.safetensors").unlink()  # changed since it was offered
    with gr.Blocks():
        picker = AdapterPicker(app_state)
    chosen, html = picker.choose(["gold1", "gone"])
    assert chosen == ["gold1"] and html.count(" checked>") == 1
    assert html.count(".png") == 5 and "plain &amp; &lt;b&gt;" in html and "<b>" not in html
    known = list(app_state.engine.model_cache.adapters)

    def tick(numbers: Any) -> list[Any]:
        return picker._tick(gr.EventData(None, {"ticked": numbers}))

    assert tick([known.index("gold2"), known.index("gold0"), 99, -1, "x", None])[0] == ["gold0", "gold2"]
    five, again = tick([known.index(name) for name in names])
    assert five == names[:4] and again.count(" checked>") == 4
    assert tick("x")[0] == []
    client = TestClient(_app(app_state))
    picture = client.get("/styles/gold1.png")
    assert picture.headers["content-type"] == "image/png" and Image.open(BytesIO(picture.content)).width <= 96
    assert {client.get(f"/styles/{name}.png").status_code for name in ("none", "..", "plain%20&%20%3Cb%3E")} == {404}


def _app(app_state: AppState) -> FastAPI:
    app = FastAPI()
    app.include_router(make_router(app_state))
    return app

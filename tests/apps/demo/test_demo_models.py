"""The Models panel without a browser: what it says, what it refuses, and how a model that was got is drawn with."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loopback_hub import running
from serving import Start
from visiting import Visitor

pytest.importorskip("gradio")

import gradio as gr
from amused_lite.apps.demo.app_state import AppState
from amused_lite.apps.demo.learning import Training
from amused_lite.apps.demo.tabs.models import PUBLISHED, ModelsTab, about_bundled
from amused_lite.apps.engine.engine import Engine
from amused_lite.apps.engine.history import History

from amused_lite.bundle import read_manifest, write_manifest
from amused_lite.runtimes.open import find_model
from amused_lite.vocabulary import THINGS, Vocabulary

HERE: Any = SimpleNamespace(client=SimpleNamespace(host="127.0.0.1"))
THERE: Any = SimpleNamespace(client=SimpleNamespace(host="192.168.1.7"))
HUB_ID = "org/small"


@pytest.fixture
def tab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelsTab]:
    monkeypatch.setenv("AMUSED_LITE_HOME", str(tmp_path / "home"))
    engine = Engine(history=History(tmp_path / "history"))
    state = AppState(engine, tmp_path / "styles")
    with gr.Blocks():
        yield ModelsTab(state, gr.Checkbox(), gr.Dropdown(["tiny"]))
    engine.close()
    state.close()


def install(home: Path, model: str) -> None:
    """The bundled model, as if it had been made of another."""
    folder = home / "models" / "pulled"
    shutil.copytree(find_model("tiny"), folder)
    manifest = read_manifest(folder)
    manifest.options["source"] = {"model": model, "commit": "0" * 40, "files": {}, "versions": {}}
    write_manifest(folder, manifest)


def test_it_says_what_the_bundled_model_knows() -> None:
    known = Vocabulary.of(find_model("tiny"))
    assert known is not None
    said = about_bundled()
    assert all(thing in said for thing in known.offered(THINGS)[:6])
    assert "has never seen" in said and PUBLISHED in said


def test_only_names_on_the_hub_and_only_where_files_may_be_written(tab: ModelsTab, tmp_path: Path) -> None:
    for name, private, asker, message in (
        (str(tmp_path), False, HERE, "Give a name on the hub"),
        ("tiny", False, HERE, "Give a name on the hub"),
        ("../etc", False, HERE, "Give a name on the hub"),
        (PUBLISHED, True, HERE, "untick Write nothing to the disk"),
        (PUBLISHED, False, THERE, f"on the machine that serves this page: amused-lite pull {PUBLISHED}"),
        (PUBLISHED, False, None, "on the machine that serves this page"),
    ):
        assert message in tab._ask(name, private, asker)[tab.stage]
        (refused,) = tab._get(name, private, asker)
        assert message in refused[tab.stage]
    tab.app_state.engine.history = None
    assert "--no-history" in tab._ask(PUBLISHED, False, HERE)[tab.stage]


def test_what_is_installed_is_listed_and_drawn_with_at_once(tab: ModelsTab, tmp_path: Path) -> None:
    assert "<dt>tiny</dt>" in tab._table()
    with pytest.raises(gr.Error, match="not installed"):
        tab.choose(HUB_ID)
    install(tmp_path / "home", HUB_ID)
    (shown,) = tab.refresh()
    assert "prepared, 16 bits, onnx" in shown[tab.here] and "last used" in shown[tab.here]
    assert [name for name, _ in shown[tab.choice].choices] == ["tiny", HUB_ID]
    assert tab.choose(HUB_ID).value == HUB_ID
    drawn = tab.app_state.engine.call(lambda amused: amused.info.name, HUB_ID)
    drawn.wait()
    assert drawn.value == "tiny"  # as its manifest calls it
    assert [name for name, _ in tab.known().choices] == ["tiny", HUB_ID]


def test_progress_the_end_and_a_failure_are_said(tab: ModelsTab, tmp_path: Path) -> None:
    """A process that says what a real one says; the real one is in the slow test."""
    lines: list[dict[str, Any]] = [{"state": "working", "what": "download", "share": 0.25}]
    for last, message, offered in (
        ({"state": "failed", "error": "the disk is full"}, "The disk is full", False),
        ({"state": "done", "model": HUB_ID}, f"{HUB_ID} is ready", True),
    ):
        said = "".join(f"{json.dumps(line)}\\n" for line in [*lines, last])
        pull = Training([sys.executable, "-c", f"print('''{said}''', flush=True)"], tmp_path, "")
        tab._plan = SimpleNamespace(model=HUB_ID)  # type: ignore[assignment]
        *_, shown = tab._follow(pull)
        assert message in shown[tab.stage]
        assert (HUB_ID in tab.app_state.engine.model_cache.models) == offered
        assert shown[tab.stop].visible is False


@pytest.mark.slow
def test_a_model_is_got_from_a_hub_and_drawn_with_without_a_restart(start: Start, tmp_path: Path) -> None:
    from small_published import save_small  # imports torch and diffusers

    small = save_small(tmp_path / "small")
    with running() as hub:
        hub.add(HUB_ID, small)
        page = start(
            "--no-browser", command="demo", HF_ENDPOINT=hub.address, HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="0"
        )
        visitor = Visitor(page.url)
        visitor.arrive("")
        visitor.set("models-wanted", HUB_ID)
        assert "8 bits for ONNX Runtime" in visitor.do("models-ask")
        visitor.values[visitor.event("models-get", "click")["inputs"][0]] = HUB_ID
        said = visitor.do("models-get")
        for words in ("Download", "Self-test", f"{HUB_ID} is ready"):
            assert words in said
        visitor.set("Installed models", HUB_ID)
        visitor.do("models-use")
        for name, value in (("How many", 1), ("Steps", 1), ("prompt", "a red star"), ("Model", HUB_ID)):
            visitor.set(name, value)
        assert "pictures/" in visitor.draw()

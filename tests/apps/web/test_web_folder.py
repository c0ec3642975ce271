"""The folder that `amused-lite web` writes: whole, small, of itself alone, and never over anything else."""

import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amused_lite.apps.web.folder import USED, write_page
from amused_lite.apps.web.words import vocabulary

from amused_lite.bundle import MODULES, WEIGHTS, Bundle, open_bundle
from amused_lite.cli import main
from amused_lite.files.safetensors import open_tensors
from amused_lite.runtimes.open import find_model

BUNDLE = open_bundle(find_model("tiny"))
MOST = 40 * 10**6  # bytes that a visitor downloads


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("web") / "site"
    assert main(["web", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def contents(page: Path) -> dict[str, Any]:
    return json.loads((page / "model.json").read_text())


def test_it_is_small_and_every_part_is_what_model_json_says(page: Path, contents: dict[str, Any]) -> None:
    for part in contents["files"]:
        data = (page / part["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["size"], part["sha256"])
    assert sum(path.stat().st_size for path in page.rglob("*") if path.is_file()) < MOST
    listed = {part["path"] for part in contents["files"]}
    assert {f"model/{path.name}" for path in (page / "model").iterdir()} == listed


def test_the_parts_hold_every_weight_that_is_read(page: Path, contents: dict[str, Any]) -> None:
    whole = np.zeros(contents["lengths"][WEIGHTS], np.uint8)
    for part in contents["files"]:
        if part["name"] == WEIGHTS:
            data = np.frombuffer((page / part["path"]).read_bytes(), np.uint8)
            whole[part["offset"] : part["offset"] + data.size] = data
    read = tuple(prefix for module in USED for prefix in MODULES[module])
    original = BUNDLE.path(WEIGHTS).read_bytes()
    for name, entry in open_tensors(BUNDLE.path(WEIGHTS)).entries.items():
        if name.startswith(read):
            place = slice(entry.offset, entry.offset + entry.size)
            assert whole[place].tobytes() == original[place], name
    graphs = {part["name"]: page / part["path"] for part in contents["files"] if part["name"].endswith(".onnx")}
    assert sorted(graphs) == sorted(f"{module}.onnx" for module in USED)
    for name, path in graphs.items():
        assert gzip.decompress(path.read_bytes()) == BUNDLE.path(name).read_bytes()


def test_the_service_worker_keeps_the_whole_page(page: Path) -> None:
    script = (page / "service-worker.js").read_text()
    (shell,) = re.findall(r"^const SHELL = (\[.*\]);$", script, re.M)
    files = {path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()}
    assert set(json.loads(shell)) == {"./", *(name for name in files if not name.startswith("model/"))} - {
        "service-worker.js"
    }
    linked = set(re.findall(r'(?:href|src)="([^"#]+)"', (page / "index.html").read_text()))
    icons = {icon["src"] for icon in json.loads((page / "manifest.webmanifest").read_text())["icons"]}
    imported = {
        (path.parent / name).resolve().relative_to(page.resolve()).as_posix()
        for path in page.glob("*/*.js")
        if path.parent.name != "onnxruntime"
        for name in re.findall(r'(?:from|import\(|URL\()\s*"([./\w-]+\.js)"', path.read_text())
    }
    assert linked | icons | imported <= files
    assert {"page/drawer.js", "drawing/worker.js", "onnxruntime/ort.wasm.bundle.min.js"} <= imported


def test_a_page_is_replaced_and_nothing_else_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site"
    write_page(BUNDLE, out)
    (out / "of-an-earlier-version.js").touch()
    write_page(BUNDLE, out)
    assert not (out / "of-an-earlier-version.js").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert main(["web", str(tmp_path / "mine")]) == 2
    assert "is no page of amused-lite; give a new folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*") if path.parent == tmp_path) == ["mine", "site"]


def test_what_no_browser_runs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Bundle(BUNDLE.folder, replace(BUNDLE.manifest, target="openvino"))
    with pytest.raises(ValueError, match="export the model with --to onnx"):
        write_page(other, tmp_path / "site")
    monkeypatch.setattr("amused_lite.apps.web.folder.LARGEST", 10**6)
    with pytest.raises(ValueError, match="at most 1 MB fit a browser's tab; quantize it first"):
        write_page(BUNDLE, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_the_words_are_the_trainings_own() -> None:
    scene = pytest.importorskip("amused_lite.training.scenes.scene")
    words = vocabulary("tiny")["words"]
    assert words["Things"] == scene.KINDS
    assert set(words["Colours"]) == set(scene.COLOURS)
    kinds = pytest.importorskip("amused_lite.training.storybook.kinds")
    captions = pytest.importorskip("amused_lite.training.storybook.captions")
    words = vocabulary("storybook")["words"]
    assert set(kinds.KINDS) <= {word for group in words.values() for word in group}
    assert words["Colours"] == kinds.COLOURS
    said = {phrase for phrases in (captions.TIME_PHRASES | captions.WEATHER_PHRASES).values() for phrase in phrases}
    assert set(words["When"]) <= said
    assert set(words["Looks"]) <= {
        phrase for pair in captions.HAND_WORDS.values() for group in pair for phrase in group
    }
    assert vocabulary("amused-512") == {"words": {}, "examples": ()}

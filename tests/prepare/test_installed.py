"""Models that are prepared already: found by what they were made from, listed, checked and removed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from amused_lite import cli, installed
from amused_lite.bundle import WEIGHTS, open_bundle, write_manifest
from amused_lite.runtimes.open import find_model, find_prepared, open_model

HUB_ID = "org/model"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with the bundled model standing for one that was pulled."""
    monkeypatch.setenv("AMUSED_LITE_HOME", str(tmp_path / "home"))
    install(HUB_ID)
    return tmp_path / "home"


def install(model: str, commit: str = "c0ffee") -> Path:
    place = installed.place_of(model, 8, "onnx")
    shutil.copytree(find_model("tiny"), place)
    manifest = open_bundle(place).manifest
    source = {"model": model, "commit": commit, "files": {}, "versions": {"torch": "2"}}
    write_manifest(place, replace(manifest, options={**manifest.options, "source": source}))
    return place


def test_a_hub_id_opens_what_was_prepared_without_the_hub(home: Path) -> None:
    before = installed.installed_models()[0].last_use
    runtime, _, _ = open_model(HUB_ID)
    assert runtime.name == "onnx"
    assert installed.installed_models()[0].last_use > before
    assert find_prepared(HUB_ID, "torch:bfloat16") is None
    assert find_prepared(HUB_ID, "openvino") is None
    assert find_prepared("org/other") is None
    assert find_prepared("tiny") is None


def test_a_folder_that_was_trained_on_since_is_not_found(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "transformer").mkdir(parents=True)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"first")
    place = install(str(folder), installed.fingerprint(folder))
    assert find_prepared(folder) == place
    weights.write_bytes(b"second")
    assert find_prepared(folder) is None


def test_models_lists_finds_checks_and_removes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = home / "models" / "org--model--8-onnx"
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out.startswith(HUB_ID)
    assert cli.main(["models", "where", HUB_ID]) == 0
    assert capsys.readouterr().out == f"{place}\n"
    assert cli.main(["models", "verify"]) == 0
    with (place / WEIGHTS).open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\0\1\2\3")
    assert cli.main(["models", "verify", HUB_ID]) == 1
    said = capsys.readouterr()
    assert "weights.safetensors is damaged or was changed" in said.err
    assert f"damaged; run: amused-lite pull {HUB_ID}" in said.out
    assert cli.main(["models", "rm"]) == 2
    assert cli.main(["models", "rm", "org/nothing"]) == 2
    assert f"no prepared model 'org/nothing'; there are: {HUB_ID}" in capsys.readouterr().err
    assert cli.main(["models", "rm", HUB_ID]) == 0
    assert not place.exists()
    assert list((home / "models").iterdir()) == []


def test_a_folder_that_is_no_model_is_passed_over(home: Path) -> None:
    for name, text in (("broken", "{"), ("stranger", "{}")):
        (home / "models" / name).mkdir()
        (home / "models" / name / "manifest.json").write_text(text)
    assert [item.source.model for item in installed.installed_models()] == [HUB_ID]

"""`amused-lite bench`: real processes are measured, and random models are ones that both libraries open."""

import argparse
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amused_lite.apps import benchmark, random_model
from amused_lite.apps.benchmark_floor import operations

from amused_lite import cli
from amused_lite.config import PRESETS
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.open import find_model


def test_contenders_are_measured_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    command = ["bench", "tiny", "tiny@torch", "--steps", "2", "--repeat", "2", "--memory", "low", "--out", str(out)]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if " of 2: " in line]
    turns = [line.partition(" s a picture")[0].rpartition(": ")[0] for line in lines]
    assert turns == ["1 of 2: tiny", "1 of 2: tiny on torch", "2 of 2: tiny", "2 of 2: tiny on torch"]
    assert "| tiny on torch | **" in said.out and "onnxruntime" in said.out
    floors = re.findall(r"\| ([\d.]+) x ([\d.]+) s \|", said.out)
    assert len(floors) == 2 and floors[0][1] == floors[1][1] and all(float(ratio) > 1 for ratio, _ in floors)
    results = json.loads(out.read_text())["results"]
    for some in results.values():
        for result in some:
            (picture,) = result["pictures"]
            assert len(picture["steps"]) == 2
            parts = picture["encode"] + sum(picture["steps"]) + picture["decode"]
            assert 0 < parts <= picture["total"] < result["first"] * 10 and result["tokens"] == 1024
    assert all(50 * 2**20 < result["peak"] < 2**31 for some in results.values() for result in some)
    # Torch's libraries alone are larger than all that ONNX Runtime needs.
    assert results["tiny on torch"][0]["peak"] > results["tiny"][0]["peak"]
    assert "torch" in results["tiny on torch"][0]["versions"] and "torch" not in results["tiny"][0]["versions"]


def test_folders_of_one_name_are_two_contenders(tmp_path: Path) -> None:
    folders = [str(tmp_path / place / "int8") for place in ("a", "b")]
    for folder in folders:
        shutil.copytree(find_model("tiny"), folder)
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    assert [rival.name for rival in benchmark.contenders(parser.parse_args([*folders, "tiny"]))] == [*folders, "tiny"]


def test_the_floor_counts_what_a_layer_multiplies() -> None:
    """Against sums by hand: half of a guided step but the head, more steps, and layers that are all alike."""
    config = PRESETS["amused-512"]
    steps = [operations(config, 1, guided) - operations(config, 0, guided) for guided in (False, True)]
    uvit, inner = config.uvit, 256
    head = 2 * 1024 * uvit.token_width * uvit.codebook_size
    assert steps[1] == pytest.approx(2 * steps[0] - head)
    fewer = replace(config, uvit=replace(uvit, layers=uvit.layers - 1))
    layer = steps[0] - (operations(fewer, 1, False) - operations(fewer, 0, False))
    width, text = uvit.hidden_size, config.text.context_length
    products = 4 * width**2 + 2 * width**2 + 3 * width * uvit.feedforward_width  # attentions and feed-forward
    attention = 2 * inner * width + 2 * text * width  # scores and sums
    assert layer == pytest.approx(2 * inner * (products + attention))


@pytest.mark.slow
def test_random_models_open_in_both_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    big = PRESETS["amused-512"]
    small = replace(
        big,
        text=replace(big.text, vocab_size=600, start_token_id=598, end_token_id=599, layers=2),
        uvit=replace(big.uvit, grid=16, layers=1, res_blocks=1, codebook_size=64, vocab_size=72),
        vqgan=replace(big.vqgan, channels=(32, 64), codebook_size=64),
    )
    monkeypatch.setitem(PRESETS, "small", small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = random_model.random_model("small")
    written = (folder / "model_index.json").stat().st_mtime_ns
    assert random_model.random_model("small") == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == written  # made once
    assert not list(folder.parent.glob(".random-*"))
    picture = AmusedPipeline.open(folder).generate("a red balloon", seed=1, steps=2)
    assert np.asarray(picture.image).std() > 1  # activations neither vanish nor explode
    command = ["bench", "--random", "small", "--against", "diffusers", "--steps", "2", "--repeat", "1"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    rows = [line.split(" | ")[0].strip("| ") for line in said.splitlines() if " s** " in line]
    assert rows == ["diffusers, float32", "diffusers, bfloat16", "small on torch", "small on torch:auto"]
    assert "Weights are random" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "not found"),
        (["tiny@fast"], "is unknown"),
        (["tiny@torch:int4"], "choose one of"),
        (["--random", "amused-1024"], "no published preset"),
        (["--random", "tiny"], "no published preset"),
        (["tiny", "--against", "diffusers"], "diffusers cannot open tiny"),
        (["--repeat", "0"], "1 or more"),
        (["tiny", "tiny"], "tiny is there twice"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["bench", *words])
    assert code == 2
    said = capsys.readouterr().err.strip()
    assert message in said and len(said.splitlines()) == 1


def test_a_contender_that_fails_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    assert cli.main(["bench", str(tmp_path), "--repeat", "1"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and f"{tmp_path.name} failed" in said[0]

"""`amused-lite quantize` from outside: its report, its gate, and one line for whatever a user can do wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from amused_lite import cli
from amused_lite.bundle import Bundle

Make = Callable[..., Bundle]

WRONG = [
    (["tiny", "OUT", "--bits", "6"], "onnx has no 6 bits; choose 8 or 4; 6 bits are for coreml"),
    (["tiny", "OUT", "--bits", "5"], "onnx has no 5 bits; choose 8 or 4"),
    (["tiny", "OUT", "--method", "full"], "onnx has no method 'full' in 8 bits; choose weights or dynamic"),
    (["tiny", "OUT", "--to", "executorch"], "executorch bundles cannot be quantized; choose --to one of onnx"),
    (["tiny", "OUT", "--prompts", "0"], "prompts must be 1 to 64, got 0"),
    (["tiny"], "give the folder to make"),
    (["tiny", "--report"], "is not quantized and has no report"),
    (["nowhere", "OUT"], "model 'nowhere' not found"),
    (
        ["tiny", "OUT", "--judge", "5", "--judge-weights", "nothing.safetensors"],
        "--judge-weights: nothing.safetensors is missing",
    ),
]


def run(*words: str) -> int:
    return cli.main(["quantize", *words])


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_mistakes(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*(str(tmp_path / "out") if word == "OUT" else word for word in words)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_quantized_bundle_is_no_source(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(make("onnx", 8, "weights").folder), str(tmp_path / "out")) == 2
    assert "is quantized already; give the model it was made from" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert run("tiny", str(tmp_path)) == 2
    assert "exists and is no bundle" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_the_gate_closes_and_leaves_nothing(
    small_bundle: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from amused_lite.quantize import options

    monkeypatch.setitem(options.BOUNDS, 4, 0.999)
    words = (str(small_bundle()), str(tmp_path / "out"), "--bits", "4", "--prompts", "1", "--no-speed")
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert "of the tokens are drawn as the float model draws them, 4 bits must reach 100%" in error
    assert not list(tmp_path.iterdir())
    assert run(*words, "--force", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"]["agreement"] < 0.999 and [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_seconds_and_memory_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No figure is asserted to be small: other programs share this machine."""
    out = tmp_path / "out"
    assert run("tiny", str(out), "--prompts", "1", "--name", "little", "--keep", "*.head.weight", "--no-encoder") == 0
    text = capsys.readouterr().out
    assert "8 bits, weights" in text and "peak_mib" in text and "step_s" in text
    assert run(str(out), "--report", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert "uvit.token_side.head.weight" in record["recipe"]["unmask"]["float16"]
    assert record["kept_by_request"] == ["*.head.weight"]
    for figures in (record["report"]["measured"], record["report"]["measured_of_float"]):
        assert all(value > 0 for value in figures.values()) and figures["peak_mib"] > 20
    assert "encode_image" in record["report"]["bytes_of_float"] and "encode_image" not in record["report"]["bytes"]

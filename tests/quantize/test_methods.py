"""The table of 8-bit methods: no method of ours is left out, and the figures are of the method that the row names."""

import json
from pathlib import Path

import pytest
from amused_lite.quantize.methods import METHODS, main
from amused_lite.quantize.options import METHODS as OFFERED


def test_every_method_of_the_engines_has_a_row() -> None:
    names = {"onnx": "onnx", "openvino": "OpenVINO"}
    for target, name in names.items():
        for method in OFFERED[target][8]:
            assert any(row.startswith(f"{name} `{method}`") for row in METHODS), (target, method)


@pytest.mark.slow
def test_the_float_bundle_agrees_with_itself_and_a_rounded_one_nearly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    some = ["ONNX, float", "onnx `dynamic`"]
    out = tmp_path / "table.md"
    assert main([str(tmp_path / "kept"), "--prompts", "0", "--out", str(out), "--only", *some]) == 0
    float_, dynamic = (json.loads(path.read_text()) for path in sorted((tmp_path / "kept").glob("*.json")))
    assert float_["agreement"] == 1 and float_["logits_error"] == 0
    assert 0.95 < dynamic["agreement"] < 1 and dynamic["logits_error"] > 0.005
    assert all(50 * 2**20 < found["peak"] < 2**30 for found in (float_, dynamic))
    lines = out.read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in some]
    assert capfd.readouterr().out.splitlines() == lines
    kept = (tmp_path / "kept" / "onnx-dynamic" / "manifest.json").stat().st_mtime_ns
    assert main([str(tmp_path / "kept"), "--prompts", "0", "--only", *some]) == 0  # nothing is measured twice
    assert (tmp_path / "kept" / "onnx-dynamic" / "manifest.json").stat().st_mtime_ns == kept

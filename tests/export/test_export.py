"""The export command: its gate, what it refuses, and that it leaves nothing behind when it stops."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import small_source

from amused_lite.bundle import MANIFEST, WEIGHTS, open_bundle
from amused_lite.cli import main
from amused_lite.conditioning import Conditioning
from amused_lite.export import costs, onnx
from amused_lite.export.bundle import check_disk, export_bundle, staging
from amused_lite.export.modules import examples
from amused_lite.export.options import ExportOptions
from amused_lite.export.parity import agreement, compare
from amused_lite.export.weights import open_source
from amused_lite.runtimes.open import find_model
from amused_lite.runtimes.torch import TorchRuntime

COMMAND = [sys.executable, "-m", "amused_lite", "export", "tiny"]


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that the command says before it gives up."""
    assert main(["export", *map(str, words)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("amused-lite: error: ")
    assert all(line.startswith("amused-lite: ") for line in lines), lines
    return lines[-1]


REFUSED: list[tuple[list[str], str]] = [
    (["--to", "abacus"], "target 'abacus' is unknown; choose one of onnx, openvino, coreml, executorch"),
    (["--to", "onnx", "--precision", "float8"], "precision 'float8' is unknown; choose one of float32, float16"),
    (["--to", "onnx", "--opset", "99"], "opset 99 is not supported; choose 18 to 23"),
    (["--to", "coreml", "--deployment-target", "iOS15"], "deployment target 'iOS15' is unknown; choose one of iOS16,"),
    (["--to", "openvino", "--single-file"], "--single-file is for onnx"),
    (["--to", "onnx", "--adapter", "nowhere.safetensors"], "nowhere.safetensors"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=range(len(REFUSED)))
def test_wrong_choices_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in refused(capsys, "tiny", tmp_path / "out", *words)
    assert list(tmp_path.iterdir()) == []


def test_wrong_places_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    assert "mine exists and is no bundle" in refused(capsys, "tiny", tmp_path / "mine", "--to", "onnx")
    (tmp_path / "file").write_text("x")
    assert "file is a file; choose another place" in refused(capsys, "tiny", tmp_path / "file", "--to", "onnx")
    assert "not found" in refused(capsys, tmp_path / "nowhere", tmp_path / "out", "--to", "onnx")
    itself = find_model("tiny")
    assert "is the model itself" in refused(capsys, "tiny", itself, "--to", "openvino")
    assert open_bundle(itself)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


@pytest.mark.parametrize("target", ["onnx", "openvino", "coreml", "executorch"])
def test_a_missing_library_names_the_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    library = {"coreml": "coremltools"}.get(target, target)
    monkeypatch.setitem(sys.modules, library, None)  # what Python itself does to forbid an import
    line = refused(capsys, "tiny", tmp_path / "out", "--to", target)
    assert f"export to {target} needs {library}" in line and 'pip install "amused-lite[export]"' in line


def test_a_damaged_model_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(find_model("tiny"), tmp_path / "copy")
    weights = tmp_path / "copy" / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert "is damaged or was changed" in refused(capsys, tmp_path / "copy", tmp_path / "out", "--to", "openvino")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_disk(tmp_path / "not" / "there" / "yet", 1000)
    with pytest.raises(ValueError, match=r"needs 1000000000\.0 GB on the disk of .* GB are free"):
        check_disk(tmp_path, 10**18)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    assert "0.0 GB are free; make room" in refused(capsys, "tiny", tmp_path / "out", "--to", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    # A file size limit fails like a full disk: in the middle of writing.
    command = ["bash", "-c", 'ulimit -f 1000; exec "$@"', "bash", *COMMAND, "out", "--to", "onnx"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr.splitlines()[1:] == ["amused-lite: error: File too large"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruptions_leave_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [*COMMAND, "out", "--to", "onnx"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and not (tmp_path / ".out.part" / WEIGHTS).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with staging(out) as folder:
        (folder / "first").touch()
    with pytest.raises(KeyboardInterrupt), staging(out) as folder:
        (folder / "second").touch()
        raise KeyboardInterrupt
    assert [path.name for path in out.iterdir()] == ["first"]
    with staging(out) as folder:
        (folder / "third").touch()
    assert [path.name for path in out.iterdir()] == ["third"]
    assert list(tmp_path.iterdir()) == [out]


def test_parity_above_its_bound_is_refused() -> None:
    exact = {"tokens": np.zeros((1, 50), np.int32)}
    off = {"tokens": np.array([[1, *[0] * 49]], np.int32)}
    assert compare("unmask", exact, exact) == {"unmask.tokens": 0}
    with pytest.raises(ValueError, match=r"unmask\.tokens is 2\.0e-02 away from torch, allowed are 1e-02"):
        compare("unmask", exact, off)
    assert compare("unmask", exact, off, half=True) == {"unmask.tokens": 0.02}
    with pytest.raises(ValueError, match="layer_text is nan away"):
        compare("encode_prompt", {"layer_text": np.ones(3)}, {"layer_text": np.full(3, np.nan)})
    with pytest.raises(ValueError, match=r"image_tokens is int64 \(1, 50\), torch gives int32"):
        compare("encode_image", {"image_tokens": exact["tokens"]}, {"image_tokens": exact["tokens"].astype(int)})


def test_a_module_that_computes_something_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate sees what the engine computes: a thousandth too much in one output, and there is no bundle."""
    source, honest = small_source(tmp_path), onnx.run_module

    def slightly_off(name: str, inputs: dict[str, Any], folder: Path) -> dict[str, Any]:
        arrays = honest(name, inputs, folder)
        return {key: array * 1.001 if key == "block_modulation" else array for key, array in arrays.items()}

    monkeypatch.setattr(onnx, "run_module", slightly_off)
    with pytest.raises(
        ValueError, match=r"encode_prompt\.block_modulation is 1\.0e-03 away from torch, allowed are 1e-04"
    ):
        export_bundle(source, tmp_path / "out", ExportOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_weights_that_float16_cannot_hold(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    with torch.no_grad():
        source.weights.part("uvit.token_side").head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"uvit\.token_side\.head\.weight holds values .* as float16; export with"):
        export_bundle(source, tmp_path / "out", ExportOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_agreement_is_of_every_step_and_has_a_bound(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    pair = Conditioning(*(array.numpy() for array in list(examples(source.weights)["unmask"].values())[1:5]))
    torch_runtime = TorchRuntime(source.weights)
    assert list(agreement(torch_runtime, torch_runtime, pair)) == [1.0] * 12
    other = small_source(tmp_path)
    with torch.no_grad():
        head = other.weights.part("uvit.token_side").head.weight
        head += 0.5 * head.std() * torch.randn(head.shape, generator=torch.Generator().manual_seed(1))
    shares = []
    with pytest.raises(ValueError, match=r"draws [1-9].*% of a picture's tokens unlike torch, allowed are 10%"):
        for share in agreement(torch_runtime, TorchRuntime(other.weights), pair, half=True):
            shares.append(share)
    assert len(shares) == 12 and 0.1 < min(shares) < 0.9


def test_what_ships_is_within_its_cost_and_its_weights_are_stored_as_exports_store_them(tmp_path: Path) -> None:
    shipped = open_bundle(find_model("tiny"))
    size = sum(record.size for record in shipped.manifest.files.values())
    assert size <= costs.disk_needed(shipped.config, ExportOptions()) <= 2 * size + 2e7
    weights = open_source(shipped.folder, tmp_path).weights
    onnx.write_weights(shipped.config, onnx.tensors_of(weights), tmp_path, ExportOptions())
    assert (tmp_path / WEIGHTS).read_bytes() == shipped.path(WEIGHTS).read_bytes()


@pytest.mark.slow
def test_what_it_will_cost_is_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The statement holds for the model that ships, and what is printed is what the manifest says."""
    assert main(["export", "tiny", str(tmp_path / "out"), "--to", "onnx", "--name", "mine", "--json"]) == 0
    printed = capsys.readouterr()
    assert "this export needs about" in printed.err
    report, manifest = json.loads(printed.out), json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert report["parity"] == manifest["parity"] and manifest["name"] == "mine"
    assert [manifest["parity"][f"unmask.agreement.step_{step:02}"] for step in range(1, 13)] == [1.0] * 12
    disk = costs.disk_needed(open_bundle(tmp_path / "out").config, ExportOptions())
    assert report["bytes"] <= disk <= 2 * report["bytes"] + 2e7
    # The same weights, stored the same way: the very file that ships.
    assert manifest["files"][WEIGHTS] == json.loads((find_model("tiny") / MANIFEST).read_text())["files"][WEIGHTS]

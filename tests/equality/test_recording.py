"""The recording of what this program makes: the comparison finds what it should, and nothing has changed since."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compare import kinds_differ, report
from record import libraries, machine

HERE = Path(__file__).parent
RECORDED = HERE / "recorded.json"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads(RECORDED.read_text())


@pytest.fixture
def changed(recorded: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(recorded)


def test_a_recording_equals_itself(recorded: dict[str, Any]) -> None:
    assert report(recorded, recorded) == ([], []) and not recorded["failed"]


def test_every_bit_counts_on_one_kind_of_machine(recorded: dict[str, Any], changed: dict[str, Any]) -> None:
    entries = changed["entries"]
    entries["generate/01 onnx"]["pixels"] = "0"
    entries["train/uvit"]["losses"][-1]["loss"] += 1e-5
    entries["flags/generate"]["names"].remove("--steps")
    del entries["edit/vary onnx"]
    entries["generate/another"] = {"tokens": "0"}
    lines, notes = report(recorded, changed)
    assert sorted(line.partition(":")[0] for line in lines) == [
        "edit/vary onnx",
        "flags/generate",
        "generate/01 onnx",
        "train/uvit",
    ]
    assert "--steps is gone from the names" in " ".join(lines) and notes == [
        "note: 1 results are new: generate/another"
    ]


def test_another_machine_may_round_otherwise_but_not_draw_otherwise(
    recorded: dict[str, Any], changed: dict[str, Any]
) -> None:
    changed["machine"]["flags"] = ["sse2"]
    entries = changed["entries"]
    entries["generate/01 onnx"]["pixels"] = entries["generate/01 onnx"]["tokens"] = "0"
    entries["train/uvit"]["losses"][-1]["loss"] *= 1.01
    lines, notes = report(recorded, changed)
    assert lines == [] and notes[0].startswith("note: flags ") and "tolerance" in notes[-1]
    entries["train/uvit"]["losses"][-1]["loss"] *= 1.5
    entries["generate/02 onnx"]["recipe"]["seed"] = 8
    for entry in entries.values():
        if "tokens" in entry:
            entry["tokens"] = "0"
    lines, _ = report(recorded, changed)
    assert len(lines) == 3 and "have other tokens" in lines[-1]


def test_recordings_of_different_models_are_refused(recorded: dict[str, Any], changed: dict[str, Any]) -> None:
    changed["model"] = "0"
    with pytest.raises(ValueError, match="different bundled models; record the earlier version again"):
        report(recorded, changed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_has_changed_since_it_was_recorded(recorded: dict[str, Any], tmp_path: Path) -> None:
    here = {"machine": machine(), "libraries": libraries()}
    if kinds := kinds_differ(recorded, here):
        pytest.skip(
            f"recorded on another kind of machine: {'; '.join(kinds)}; record both versions here, see record.py"
        )
    now = tmp_path / "now.json"
    subprocess.run([sys.executable, str(HERE / "record.py"), str(now)], check=True)
    lines, _ = report(recorded, json.loads(now.read_text()))
    assert lines == []

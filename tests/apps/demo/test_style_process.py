"""The process that learns a style for the page, on the bundled model: what it says, and what it leaves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="styles need the extra 'torch'")

from amused_lite.adapters.file import load_adapter
from amused_lite.style.job import work_folder

RECIPE = {"steps": 2, "sample_every": None, "batch": 1, "guessed_share": 0.0}


def said(spec: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What the process says, in JSON; its other words are the training's own."""
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    command = [sys.executable, "-m", "amused_lite.apps.demo.style_process", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == (2 if lines[-1]["state"] == "failed" else 0), done.stderr
    return lines


def test_it_learns_samples_and_says_so_and_replaces_what_a_failed_one_left(tmp_path: Path) -> None:
    out, picture = tmp_path / "gold.safetensors", tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).resize((160, 160)).save(picture)
    spec = {"pictures": [(str(picture), "a red star")], "style": "gold", "out": str(out), "prompts": ["a star"]}
    spec |= {"model": "tiny", "threads": 1, "recipe": RECIPE}
    work_folder(out).mkdir()
    (work_folder(out) / "plan.json").write_text("{}")  # of another training
    lines = said(spec, tmp_path)
    assert [line["state"] for line in lines if line["state"] != "preparing"] == [
        "opening", "learning", "learning", "sample", "done",
    ]  # fmt: skip
    steps = [line for line in lines if line["state"] == "learning"]
    assert [(line["step"], line["steps"]) for line in steps] == [(1, 2), (2, 2)] and steps[-1]["seconds_left"] == 0
    sample, done = lines[-2:]
    assert Path(sample["strip"]).is_file() and sample["step"] == done["best"] == 2
    assert done["path"] == str(out) and done["bytes"] == out.stat().st_size
    assert load_adapter(out).record.recipe["style"] == "gold"
    (failed,) = [line for line in said(spec, tmp_path) if line["state"] == "failed"]
    assert "gold.safetensors is there already" in failed["error"]

"""A killed run that is started again is the same run: same data, same losses, same weights."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from amused_lite.training import presets
from amused_lite.training.loop import TrainingRun
torch.set_num_threads(1)
TrainingRun.due = lambda self: True  # a checkpoint after every step, so that a kill can land between any two
plan = presets.small(presets.scenes(Path(sys.argv[1])))
part = plan.parts[""]
part = replace(part, train_config=replace(part.train_config, steps=12, log_every=1))
replace(plan, parts={"": part}).run("uvit")
"""


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "uvit" / "log.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every stage before the U-ViT run for real, in miniature."""
    from amused_lite.training import presets

    folder = tmp_path_factory.mktemp("build")
    plan = presets.small(presets.scenes(folder))
    for stage in ("tokenizer", "vqgan", "clip", "tokens"):
        plan.run(stage)
    return folder


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_uninterrupted(prepared: Path, tmp_path: Path, how: signal.Signals) -> None:
    folders = [tmp_path / "straight", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
        for name in ("tokenizer.json", "vqgan", "clip", "tokens"):
            (folder / name).symlink_to(prepared / name)
    command = [sys.executable, "-c", SCRIPT]
    subprocess.run([*command, str(folders[0])], check=True, timeout=300)

    kills = 0
    moments = random.Random(how)
    log = folders[1] / "uvit" / "log.jsonl"
    while not log.exists() or len(losses(folders[1])) < 12:
        process = subprocess.Popen([*command, str(folders[1])], stdout=subprocess.DEVNULL)
        done = len(losses(folders[1])) if log.exists() else 0
        while kills < 3 and process.poll() is None and (not log.exists() or len(losses(folders[1])) < done + 2):
            time.sleep(0.02)
        if kills < 3 and process.poll() is None:
            time.sleep(moments.random() * 0.3)
            process.send_signal(how)
            kills += 1
        process.wait(timeout=300)
    assert kills == 3
    assert losses(folders[1]) == losses(folders[0])
    straight, killed = (load_file(folder / "uvit" / "checkpoint.safetensors") for folder in folders)
    assert straight.keys() == killed.keys()
    assert all(straight[key].equal(killed[key]) for key in straight)


def test_training_goes_on_from_a_bundle(tmp_path: Path) -> None:
    from dataclasses import replace

    import torch

    from amused_lite.bundle import open_bundle
    from amused_lite.runtimes.open import find_model
    from amused_lite.training import presets

    plan = presets.small(presets.scenes(tmp_path))
    part = replace(plan.parts[""], train_config=replace(plan.parts[""].train_config, steps=1))
    plan = replace(plan, source=open_bundle(find_model("tiny")), parts={"": part})
    plan.check_source()
    for stage in plan.stages[:-1]:
        assert plan.run(stage)
    assert losses(tmp_path)[0][1] < 4.0  # a random start answers ln(1024) = 6.9
    assert torch.equal(plan.networks().text.embedding.weight, plan._source_part("text").embedding.weight)
    with pytest.raises(ValueError, match="has other sizes than a model of the world 'storybook'"):
        replace(presets.storybook(tmp_path), source=plan.source).check_source()

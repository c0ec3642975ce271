"""A killed run that is started again is the same run: same data, same losses, same weights."""

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import small_build
import torch
from safetensors.torch import load_file

from amused_lite.bundle import open_bundle
from amused_lite.runtimes.open import find_model
from amused_lite.training import build, presets


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD", small_build.SHARD)


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "uvit" / "log.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, how: signal.Signals) -> None:
    """The server that forks the trainings has imported torch once for all of them, and computed nothing."""
    folders = [tmp_path / "straight", tmp_path / "killed"]
    prepared = small_build.scenes(tmp_path / "prepared")
    for stage in ("tokenizer", "vqgan", "clip", "tokens"):
        prepared.run(stage)
    for folder in folders:
        folder.mkdir()
        for name in ("tokenizer.json", "vqgan", "clip", "tokens"):
            (folder / name).symlink_to(prepared.folder / name)
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["small_build"])

    def started(folder: Path) -> multiprocessing.context.ForkServerProcess:
        process = forks.Process(target=small_build.train_uvit, args=(folder,))
        process.start()
        return process

    straight = started(folders[0])
    straight.join(300)
    assert straight.exitcode == 0

    kills = 0
    moments = random.Random(how)
    log = folders[1] / "uvit" / "log.jsonl"
    while not log.exists() or len(losses(folders[1])) < small_build.RESUMED_STEPS:
        process = started(folders[1])
        done = len(losses(folders[1])) if log.exists() else 0
        while kills < 3 and process.is_alive() and (not log.exists() or len(losses(folders[1])) < done + 2):
            time.sleep(0.002)
        if kills < 3 and process.is_alive():
            time.sleep(moments.random() * 0.05)
            os.kill(process.pid or 0, how)
            kills += 1
        process.join(300)
    assert kills == 3
    assert losses(folders[1]) == losses(folders[0])
    straight_weights, killed_weights = (load_file(folder / "uvit" / "checkpoint.safetensors") for folder in folders)
    assert straight_weights.keys() == killed_weights.keys()
    assert all(straight_weights[key].equal(killed_weights[key]) for key in straight_weights)


def test_training_goes_on_from_a_bundle(tmp_path: Path) -> None:
    plan = presets.small(presets.scenes(tmp_path))
    part = replace(plan.parts[""], pictures=small_build.SHARD, first_pictures=small_build.SHARD)
    part = replace(part, train_config=replace(part.train_config, steps=1))
    plan = replace(plan, source=open_bundle(find_model("tiny")), parts={"": part})
    plan.check_source()
    for stage in plan.stages[:-1]:
        assert plan.run(stage)
    assert losses(tmp_path)[0][1] < 4.0  # a random start answers ln(1024) = 6.9
    assert torch.equal(plan.networks().text.embedding.weight, plan._source_part("text").embedding.weight)
    with pytest.raises(ValueError, match="has other sizes than a model of the world 'storybook'"):
        replace(presets.storybook(tmp_path), source=plan.source).check_source()

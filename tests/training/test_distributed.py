"""One process and two compute the same training, and one goes on where two stopped."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import libraries  # noqa: F401
import numpy as np
import pytest
import small_published
import torch
from diffusers import AmusedPipeline, UVit2DModel

from amused_lite.training.base_model import BaseModel
from amused_lite.training.data.shards import ShardManifest, write_manifest, write_shard
from amused_lite.training.loop.fit import TrainingRun

SCRIPT = Path(__file__).with_name("distributed_training.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 samples of 64 random tokens."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    tokens, text = rng.integers(0, 32, (100, 64)), rng.integers(0, 1000, (100, 32))
    micro = np.tile(np.array([64, 64, 0, 0, 6], np.float32), (100, 1))
    columns = {"tokens": tokens.astype(np.uint16), "text": text.astype(np.uint16), "micro": micro}
    manifest = ShardManifest(1, "test", "0" * 64, 1, "small", "custom", "0" * 64, "0" * 64, 128, 64, {})
    write_manifest(folder, replace(manifest, shards=(write_shard(folder, 0, columns),)))
    return folder


def train(data: Path, run: Path, processes: int, stop_after: int = 50, *shard: str) -> None:
    assert started([str(SCRIPT), str(data), str(run), str(stop_after), *shard], processes) == [0] * processes


def started(words: list[str], processes: int) -> list[int]:
    """The exit codes of a Python program in so many processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(processes):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1}
        said = {name: str(value) for name, value in (ranks | place if processes > 1 else place).items()}
        running.append(subprocess.Popen([sys.executable, *words], env=os.environ | said, stdout=subprocess.DEVNULL))
    return [process.wait(timeout=600) for process in running]


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone")
    train(data, run, 1)
    return run


def same(run: Path, alone: Path) -> None:
    assert len(losses(run)) == 50
    assert losses(run) == pytest.approx(losses(alone), rel=1e-4)
    (_, one, _), (_, other, _) = (TrainingRun(folder).load() or pytest.fail("no checkpoint") for folder in (run, alone))
    assert one.keys() == other.keys()
    for name in one:
        assert np.allclose(one[name], other[name], rtol=1e-3, atol=1e-4), name


@pytest.mark.slow
def test_two_processes_compute_what_one_computes(data: Path, alone: Path, tmp_path: Path) -> None:
    assert losses(alone)[-1] < losses(alone)[0]
    train(data, tmp_path, 2)
    same(tmp_path, alone)


@pytest.mark.slow
def test_two_then_one_then_two_processes_are_the_same_training(data: Path, alone: Path, tmp_path: Path) -> None:
    for processes, steps in ((2, 15), (1, 15), (2, 50)):
        train(data, tmp_path, processes, steps)
    same(tmp_path, alone)


@pytest.mark.slow
def test_weights_split_over_two_processes_go_on_in_one(data: Path, alone: Path, tmp_path: Path) -> None:
    train(data, tmp_path, 2, 30, "shard")
    assert [path.name for path in tmp_path.glob("split-*")] == ["split-00000030"]
    train(data, tmp_path, 1)
    same(tmp_path, alone)
    assert not [*tmp_path.glob("split-*")]


@pytest.mark.slow
def test_split_over_two_processes_becomes_a_folder_that_diffusers_loads(tmp_path: Path) -> None:
    small = small_published.save_small(tmp_path / "small")
    base, data = BaseModel.open(small, 1), tmp_path / "data"
    data.mkdir()
    count, rng = base.networks.config.uvit.num_tokens, np.random.default_rng(0)
    text = base.tokenizer.encode(["a red star", "a star", "red", "a"]).astype(np.uint16)
    micro = np.array([[16, 16, 0, 0, 6]] * 4, np.float32)
    columns = {"tokens": rng.integers(0, 64, (4, count)).astype(np.uint16), "text": text, "micro": micro}
    ours = (base.codebook_hash, base.tokenizer.hash, base.networks.config.image_size, count)
    manifest = ShardManifest(1, "test", "0" * 64, 1, "small", base.preset, *ours, {}, (write_shard(data, 0, columns),))
    write_manifest(data, manifest)

    def finetuned(out: Path, processes: int, *more: str) -> list[int]:
        settings = ["--steps", "6", "--batch", "4", "--accumulation", "2", "--learning-rate", "1e-3", "--threads", "1"]
        words = ["-m", "amused_lite", "finetune", str(small), str(data), str(out), *settings, *more]
        return started(words, processes)

    assert finetuned(tmp_path / "two", 2, "--shard") == [0, 0]
    assert finetuned(tmp_path / "one", 2, "--shard", "--stop-after", "3") == [130, 130]
    assert [*tmp_path.glob("one.work/*/split-00000003/*.safetensors")] and not (tmp_path / "one").exists()
    assert finetuned(tmp_path / "one", 1) == [0]
    pipelines = [AmusedPipeline.from_pretrained(tmp_path / name).transformer for name in ("one", "two")]
    start = UVit2DModel.from_pretrained(small / "transformer")
    for (name, before), one, two in zip(start.named_parameters(), *(p.parameters() for p in pipelines), strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4), name
        assert not torch.equal(one, before), name

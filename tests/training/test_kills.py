"""Tokenizing and training that are killed (-9) at twenty random moments: no sample lost or twice, the same curve."""

import random
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import killed_work
import pytest
from PIL import Image
from test_distributed import data, losses  # noqa: F401 - a fixture

from amused_lite.training.data.shards import open_shards

KILLS = 20
WITHIN = 0.1  # s from the first sign of work to the kill: about as long as a shard or a step takes
SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(["pytest", *(name for name in sys.modules if name.startswith("amused_lite."))])


def started(work: Callable[..., None], words: tuple[Any, ...]) -> Any:
    process = SERVER.Process(target=work, args=words)
    process.start()
    return process


def survive(work: Callable[..., None], words: tuple[Any, ...], done: Callable[[], int]) -> int:
    """Start work again and again, killing it at random once more of it is done; returns how many kills it took."""
    moments, kills = random.Random(0), 0
    while True:
        process, before = started(work, words), done()
        while kills < KILLS and process.is_alive() and done() <= before:
            time.sleep(0.005)
        if kills < KILLS and process.is_alive():
            time.sleep(moments.random() * WITHIN)
            process.kill()
            kills += 1
            process.join()
            continue
        process.join(300)
        assert process.exitcode == 0
        return kills


@pytest.mark.slow
def test_tokenizing_survives_kills(small_bundle: Callable[..., Path], tmp_path: Path) -> None:
    source, straight, killed = (tmp_path / name for name in ("pictures", "straight", "killed"))
    source.mkdir()
    for number in range(160):
        Image.new("RGB", (256, 256), (number, 255 - number, 0)).save(source / f"{number:03d}.png")
        (source / f"{number:03d}.txt").write_text(f"{number}")
    words = ("-m", small_bundle())
    assert started(killed_work.tokenizing, ((source, straight, *words),)).join(300) is None
    assert survive(killed_work.tokenizing, ((source, killed, *words),), lambda: len([*killed.glob("*.done")])) == KILLS
    whole, other = open_shards(straight)[0], open_shards(killed)[0]
    assert whole.count == 160 and whole.shards == other.shards
    assert not [*killed.glob(".amused*")]


@pytest.mark.slow
def test_training_survives_kills(data: Path, tmp_path: Path) -> None:  # noqa: F811
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    started(killed_work.training, (data, straight)).join(300)
    log = killed / "log.jsonl"
    lines = lambda: log.read_text().count("\n") if log.exists() else 0  # noqa: E731
    assert survive(killed_work.training, (data, killed), lines) == KILLS
    assert len(losses(straight)) == 50 and losses(killed) == losses(straight)

"""Tokenizing and training that are killed (-9) at twenty random moments: no sample lost or twice, the same curve."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from test_distributed import data, losses  # noqa: F401 - a fixture

from amused_lite.training.data.shards import open_shards

KILLS = 20
SLOWLY = """
import sys, time
from amused_lite import cli
from amused_lite.training.data import pictures, shards
pictures.SHARD = 2
write = shards.replace_text
shards.replace_text = lambda *words: (time.sleep(0.05), write(*words))  # kills land between files and their mark
sys.exit(cli.main(["tokenize", *sys.argv[1:], "--threads", "1"]))
"""
SAVING = """
import sys, runpy
from amused_lite.training.loop.fit import TrainingRun
TrainingRun.due = lambda self: True  # a checkpoint after every step, so that a kill can land between any two
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def survive(words: list[str], alive: Callable[[], bool]) -> int:
    """Start a program again and again, killing it at random once it is at work; returns how many kills it took."""
    moments, kills = random.Random(0), 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while kills < KILLS and process.poll() is None and not alive():
            time.sleep(0.01)
        if kills < KILLS and process.poll() is None:
            time.sleep(moments.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            kills += 1
            process.wait()
            continue
        assert process.wait(timeout=300) == 0
        return kills


class Grows:
    """Whether there is more of something than when it was last asked and answered yes."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.count, self.before = count, 0

    def __call__(self) -> bool:
        now = self.count()
        grown, self.before = now > self.before, max(now, self.before)
        return grown


@pytest.mark.slow
def test_tokenizing_survives_kills(tmp_path: Path) -> None:
    source, straight, killed = (tmp_path / name for name in ("pictures", "straight", "killed"))
    source.mkdir()
    for number in range(60):
        Image.new("RGB", (512, 512), (4 * number, 0, 0)).save(source / f"{number:02d}.png")
        (source / f"{number:02d}.txt").write_text(f"{number}")
    subprocess.run([sys.executable, "-c", SLOWLY, str(source), str(straight)], check=True, timeout=600)
    assert survive([SLOWLY, str(source), str(killed)], Grows(lambda: len([*killed.glob("*.done")]))) == KILLS
    whole, other = open_shards(straight)[0], open_shards(killed)[0]
    assert whole.count == 60 and whole.shards == other.shards
    assert not [*killed.glob(".amused*")]


@pytest.mark.slow
def test_training_survives_kills(data: Path, tmp_path: Path) -> None:  # noqa: F811
    script = str(Path(__file__).with_name("distributed_training.py"))
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    subprocess.run([sys.executable, "-c", SAVING, script, str(data), str(straight), "50"], check=True, timeout=600)
    log = killed / "log.jsonl"
    lines = Grows(lambda: log.read_text().count("\n") if log.exists() else 0)
    assert survive([SAVING, script, str(data), str(killed), "50"], lines) == KILLS
    assert losses(killed) == losses(straight)

"""What `test_kills.py` starts and kills: work that is slowed where a kill would find the most to break.

It runs in processes forked from one that has imported all of this, so that a kill costs no start of Python.
"""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from distributed_training import train

from amused_lite import cli
from amused_lite.commands.training import tokenize as command  # noqa: F401 - imported for the forks, as the next
from amused_lite.training.data import pictures, shards, tokenize  # noqa: F401
from amused_lite.training.loop.fit import TrainingRun


def _quiet() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)


def tokenizing(words: Iterable[object]) -> None:
    """`tokenize` with two pictures in a shard, and time between a shard's files and its mark."""
    _quiet()
    pictures.SHARD = 2
    write = shards.replace_text
    shards.replace_text = lambda *said: (time.sleep(0.05), write(*said))
    sys.exit(cli.main(["tokenize", *map(str, words), "--threads", "1"]))


def training(data: Path, run: Path) -> None:
    """The small training with a checkpoint after every step, so that a kill can land between any two."""
    _quiet()
    TrainingRun.due = lambda self: True
    train(data, run, 50)

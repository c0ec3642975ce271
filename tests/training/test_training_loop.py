"""A run's folder: full disks, files cut in half, and an impatient user."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from amused_lite import cli
from amused_lite.training.loop import TrainingRun


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """A limit on the size of files, which fails in the same place and in the same library as a full disk."""
    resource = pytest.importorskip("resource")
    run = TrainingRun(tmp_path)
    run.save(1, {"a": torch.ones(8)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(OSError, match=r"checkpoint.safetensors cannot be written: .*make room"):
            run.save(2, {"a": torch.ones(2**16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["checkpoint.safetensors"]
    step, tensors, _ = run.load() or pytest.fail("nothing is left")
    assert step == 1 and torch.equal(tensors["a"], torch.ones(8))


def test_a_log_that_was_cut_in_a_line_goes_on(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path)
    for step in range(4):
        run.log(step, loss=0.5)
    run.save(3, {"a": torch.ones(1)})
    log = tmp_path / "log.jsonl"
    whole = log.read_text().splitlines()
    log.write_text("\n".join(whole)[:-20])
    assert run.resume()
    assert log.read_text().splitlines() == whole[:3]


IMPATIENT = """
import os, signal, sys
from pathlib import Path
from amused_lite import cli
from amused_lite.training.loop import TrainingRun
number = signal.Signals(int(sys.argv[1]))
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell put this into the background

def work():
    for step in TrainingRun(Path(sys.argv[2])).steps(0, 3):
        os.kill(os.getpid(), number)
        print("step", step)
        os.kill(os.getpid(), number)
        print("never")
    return 0

sys.exit(cli.guard(work))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asking_twice_ends_at_once_and_in_one_line(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """In a process of its own: libraries that other tests have loaded come between signals and Python."""
    command = [sys.executable, "-c", IMPATIENT, str(int(number)), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stdout.count("stopping after this step") == 1
    assert done.stdout.endswith("step 0\n") and "Traceback" not in done.stderr


def test_too_little_memory_costs_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Torch says so in an error of its own, which is no MemoryError."""
    assert cli.guard(lambda: len(torch.empty(2**60, dtype=torch.uint8))) == 2
    assert capsys.readouterr().err.strip().splitlines() == [
        "amused-lite: error: not enough memory; close other programs or use a smaller model"
    ]

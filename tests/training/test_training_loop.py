"""A run's folder: full disks, files cut in half, and an impatient user."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from amused_lite import cli
from amused_lite.training.loop.fit import TrainingRun, fit


@contextmanager
def full_disk() -> Iterator[None]:
    """A limit on the size of files, which fails in the same place and in the same library as a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path)
    run.save(1, {"a": torch.ones(8)})
    with full_disk(), pytest.raises(OSError, match=r"checkpoint.safetensors cannot be written: .*make room"):
        run.save(2, {"a": torch.ones(2**16)})
    assert os.listdir(tmp_path) == ["checkpoint.safetensors"]
    step, tensors, _ = run.load() or pytest.fail("nothing is left")
    assert step == 1 and torch.equal(tensors["a"], torch.ones(8))


def test_a_full_disk_keeps_the_split_weights_before(tmp_path: Path) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        split = distribute_tensor(torch.ones(2**16), init_device_mesh("cpu", (1,)), [Shard(0)])
        run = TrainingRun(tmp_path)
        run.save(1, {"a": split})
        with full_disk(), pytest.raises(OSError, match=r"split-00000002 cannot be written: .*large; make room"):
            run.save(2, {"a": split + 1})
    finally:
        dist.destroy_process_group()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.safetensors", "split-00000001"]
    step, tensors, _ = run.load() or pytest.fail("nothing is left")
    assert step == 1 and torch.equal(tensors["a"], torch.ones(2**16))


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
from amused_lite.training.loop.fit import TrainingRun
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


class Counter:
    """A trainer of one number."""

    def __init__(self, name: str = "count") -> None:
        self.name, self.count = name, torch.zeros(1)

    def step(self, number: int) -> dict[str, float]:
        self.count += number
        return {"loss": float(number)}

    def state(self) -> dict[str, object]:
        return {self.name: self.count}

    def restore(self, tensors: dict[str, torch.Tensor], numbers: dict[str, object]) -> None:
        self.count = tensors[self.name]


def steps_logged(folder: Path) -> list[tuple[int, float]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines]


def test_a_session_that_ends_early_keeps_the_losses_it_has_not_logged(tmp_path: Path) -> None:
    trainer = Counter()
    assert fit(TrainingRun(tmp_path), trainer, 10, log_every=4, mean=True, stop_after=3) is None
    assert fit(TrainingRun(tmp_path), trainer := Counter(), 10, log_every=4, mean=True) == "all 10 steps are done"
    assert trainer.count.item() == sum(range(10))
    assert steps_logged(tmp_path) == [(0, 0.0), (4, 2.5), (8, 6.5), (9, 9.0)]  # means since the line before
    assert fit(TrainingRun(tmp_path), Counter(), 10) == "all 10 steps are done" and len(steps_logged(tmp_path)) == 4


def test_a_reason_ends_a_training_for_good(tmp_path: Path) -> None:
    def enough(done: int) -> str:
        return "enough" if done == 2 else ""

    first = fit(TrainingRun(tmp_path), Counter(), 10, log_every=2, log_first=False, after_step=enough)
    again = fit(TrainingRun(tmp_path), trainer := Counter(), 10)
    assert first == again == "enough" and trainer.count.item() == 1
    assert steps_logged(tmp_path) == [(1, 1.0)]


def test_another_model_in_the_folder_costs_one_line(tmp_path: Path) -> None:
    fit(TrainingRun(tmp_path), Counter(), 1)
    with pytest.raises(ValueError, match="does not fit this training"):
        fit(TrainingRun(tmp_path), Counter("total"), 2)

"""A run's folder: full disks, files cut in half, and an impatient user."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from amused_lite import cli
from amused_lite.training.run import Run


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signal handlers as they were afterwards; Ctrl-C is heard even in what a shell put into the background."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """A limit on the size of files, which fails in the same place and in the same library as a full disk."""
    resource = pytest.importorskip("resource")
    run = Run(tmp_path)
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
    run = Run(tmp_path)
    for step in range(4):
        run.log(step, loss=0.5)
    run.save(3, {"a": torch.ones(1)})
    log = tmp_path / "log.jsonl"
    whole = log.read_text().splitlines()
    log.write_text("\n".join(whole)[:-20])
    assert run.resume()
    assert log.read_text().splitlines() == whole[:3]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asking_twice_ends_at_once_and_in_one_line(
    number: signal.Signals, code: int, tmp_path: Path, handlers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    def work() -> int:
        for step in Run(tmp_path).steps(0, 3):
            os.kill(os.getpid(), number)
            done.append(step)
            os.kill(os.getpid(), number)
            done.append("never")
        return 0

    assert cli.guard(work) == code
    said = capsys.readouterr()
    assert done == [0] and said.out.count("stopping after this step") == 1 and "Traceback" not in said.err


def test_too_little_memory_costs_one_line(handlers: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Torch says so in an error of its own, which is no MemoryError."""
    assert cli.guard(lambda: len(torch.empty(2**60, dtype=torch.uint8))) == 2
    assert capsys.readouterr().err.strip().splitlines() == [
        "amused-lite: error: not enough memory; close other programs or use a smaller model"
    ]

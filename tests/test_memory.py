"""`--memory low`: the same picture, and less memory, by the system's own count."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_lite.system.memory import let_go

PEAK = """
import sys
from amused_lite.cli import main
code = main(sys.argv[1:])
lines = open("/proc/self/status").read().splitlines()
print(code, next(line for line in lines if line.startswith("VmHWM")).split()[1])
"""
AGAIN = """
import resource, sys
import numpy as np
from amused_lite.system.memory import keep_freed
if sys.argv[1] == "kept":
    keep_freed()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24, np.float32)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_arrays_need_no_fresh_pages() -> None:
    words = [sys.executable, "-c", AGAIN]
    plain, kept = (int(subprocess.check_output([*words, how], text=True)) for how in ("plain", "kept"))
    assert kept < 8 < plain, (kept, plain)  # 64 MB are 16,384 pages, or 32 huge ones


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says a process's peak")
def test_the_same_picture_in_less_memory(tmp_path: Path) -> None:
    pictures, peaks = [], []
    for choice in ("low", "fast"):
        path = tmp_path / f"{choice}.png"
        words = ["generate", "a red star", "--seed", "1", "--steps", "3", "-q", "-o", str(path), "--memory", choice]
        done = subprocess.run([sys.executable, "-c", PEAK, *words], capture_output=True, text=True, check=True)
        code, peak = done.stdout.splitlines()[-1].split()
        assert code == "0"
        pictures.append(np.asarray(Image.open(path)))
        peaks.append(int(peak))
    assert np.array_equal(*pictures)
    assert peaks[0] < peaks[1], peaks


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is in memory")
def test_a_mapped_file_goes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 2**16)
    with path.open("rb") as file:
        os.fsync(file.fileno())  # pages that were just written are kept
    array = np.memmap(path, np.uint8, "r")
    expected = int(array.sum(dtype=np.int64))
    before = mapped_kb()
    let_go(path)
    assert before - mapped_kb() > 12 * 1024  # of 16 MB
    assert int(array.sum(dtype=np.int64)) == expected


def mapped_kb() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
    return int(line.split()[1])

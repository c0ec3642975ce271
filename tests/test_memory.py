"""`--memory low`: the same picture, and less memory, by the system's own count."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PEAK = """
import sys
from amused_lite.cli import main
code = main(sys.argv[1:])
lines = open("/proc/self/status").read().splitlines()
print(code, next(line for line in lines if line.startswith("VmHWM")).split()[1])
"""


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

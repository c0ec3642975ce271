"""Ctrl-C after OpenVINO's models went in the order in which they came."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("openvino")
pytest.importorskip("torch")

SCRIPT = """
import gc, os, signal, sys, time
from pathlib import Path
from amused_lite.runtimes.openvino import load_graph

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell put this into the background
first, second = (load_graph(Path(sys.argv[1]), threads=1) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_is_heard(small_bundle: Callable[..., Path]) -> None:
    graph = next(small_bundle(ranker=True, target="openvino").rglob("encode_prompt*.xml"))
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(graph)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr[-500:]

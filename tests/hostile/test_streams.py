"""What needs a process of its own: streams that are full, closed or know few letters, and signals at bad moments."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import good
import pytest

COMMAND = [sys.executable, "-m", "amused_lite"]
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


def amused(*words: str, folder: Path, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell that redirects its streams first."""
    command = ["bash", "-c", f'exec "$@" {redirect}', "bash", *COMMAND, *words]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--help",), ("show", "--help"), ("show", "a.png"), ("show", "a.png", "--json")])
def test_a_full_stdout_is_one_line(words: tuple[str, ...], unbuffered: str, tmp_path: Path) -> None:
    good.write_png(tmp_path / "a.png", good.recipe())
    result = amused(*words, folder=tmp_path, redirect=">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (result.returncode, result.stderr) == (2, "amused-lite: error: No space left on device\n")


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_closed_streams_change_neither_exit_code_nor_files(redirect: str, tmp_path: Path) -> None:
    good.write_png(tmp_path / "a.png", good.recipe())
    before = (tmp_path / "a.png").read_bytes()
    for words, code in ((("show", "a.png"), 0), (("show", "nowhere.png"), 2), (("--nonsense",), 2)):
        result = amused(*words, folder=tmp_path, redirect=redirect)
        assert result.returncode == code, result
        assert "Traceback" not in result.stderr and "Exception" not in result.stderr
    assert (tmp_path / "a.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_terminals_of_few_letters(encoding: str, tmp_path: Path) -> None:
    good.write_png(tmp_path / "a.png", good.recipe() | {"prompt": "\U0001f388 \x1b[2Ja star\x07"})
    result = amused("show", "a.png", folder=tmp_path, PYTHONIOENCODING=encoding)
    assert result.returncode == 0, result.stderr
    shown = "\U0001f388" if encoding == "utf-8" else "\\U0001f388"
    assert f"prompt    {shown} \\x1b[2Ja star\\x07" in result.stdout
    refused = amused("show", "\U0001f388\x1b[2J.png", folder=tmp_path, PYTHONIOENCODING=encoding)
    assert refused.returncode == 2
    assert refused.stderr == f"amused-lite: error: No such file or directory: {shown}\\x1b[2J.png; check the name\n"


def interrupted(words: list[str], folder: Path, delays: tuple[float, ...], number: int) -> tuple[int, str]:
    """Exit code and stderr of a command that gets a signal after each delay, in seconds."""
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for delay in delays:
        time.sleep(delay)
        process.send_signal(number)
    return process.wait(timeout=120), process.communicate()[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "place", ["argparse", "difflib", "amused_lite.cli", "amused_lite.console.terminal", "amused_lite.commands.show"]
)
def test_a_signal_in_any_of_the_first_imports(number: int, code: int, place: str, tmp_path: Path) -> None:
    """Sent by the process itself while a module is looked up, so that no clock decides what is tested."""
    script = f"""
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {place!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Finder())
for name in ("argparse", "difflib"):
    sys.modules.pop(name, None)
sys.argv = ["amused-lite", "show", "nowhere.png"]
import amused_lite.__main__ as entry
sys.exit(entry.main())
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert result.returncode == code, result.stderr
    assert result.stderr == ("amused-lite: interrupted\n" if number == signal.SIGINT else "")


def test_ctrl_c_while_text_is_executed_ends_with_130_too(tmp_path: Path) -> None:
    """As dataclasses and named tuples are made: Python itself would end the process by the signal."""
    text = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "m.py").write_text(
        f"import sys\nfrom amused_lite.cli import guard\nsys.exit(guard(lambda: exec({text!r})))"
    )
    words = [sys.executable, "-m", "m"]
    assert interrupted(words, tmp_path, (), signal.SIGINT) == (130, "amused-lite: interrupted\n")


@pytest.mark.slow
def test_twice_ctrl_c_in_training_ends_with_130(tmp_path: Path) -> None:
    """At many moments, the second one soon after the first."""
    words = [*COMMAND, "distil", "tiny", "out", "--pictures", "16", "--steps", "2000"]
    for delay in (3.0, 8.0, 20.0):  # Python itself is up by then
        for gap in (0.01, 0.3):
            code, said = interrupted(words, tmp_path, (delay, gap), signal.SIGINT)
            assert code == 130, (delay, gap, said)
            assert "Traceback" not in said
    assert not (tmp_path / "out").exists()

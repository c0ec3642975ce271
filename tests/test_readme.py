"""The README's commands exist and run."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("amused-lite ") and "amused/amused-512" not in line]
MAKE = re.findall(r"make [a-z][^`\n]*", "\n".join(LINES)) + re.findall(r"`(make [a-z][^`]*)`", README)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_run(tmp_path: Path, line: str) -> None:
    words = shlex.split(line)[1:]
    result = subprocess.run(
        [sys.executable, "-m", "amused_lite", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    if "--help" not in words:
        made = [tmp_path / printed.split("  ")[0] for printed in result.stdout.splitlines()]
        assert made and all(path.suffix == ".png" and path.is_file() for path in made)


def test_python_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    assert (tmp_path / "balloon.png").is_file()


@pytest.mark.parametrize("line", sorted(set(MAKE)))
def test_make_targets_exist(line: str) -> None:
    words = [*shlex.split(line), "--dry-run"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_the_first_screen_shows_commands_and_picture() -> None:
    first = README[:1500]
    assert 'make generate PROMPT="' in first and "make test" in first and "docs/images/first.png" in first


def test_everything_named_is_there() -> None:
    for path in re.findall(r"\]\(([^):#]+)\)", README):
        assert (ROOT / path).is_file(), path
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in re.findall(r"\.\[([a-z,]+)\]", README):
        assert set(name.split(",")) <= set(extras)

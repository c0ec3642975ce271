"""What people hand over and get wrong: one line that names file and field, the exit code, and nothing half-written.

Every tenth of the list runs each time, all of it with `-m slow`. Commands run in this process, whose interpreter and
libraries are warm; what needs a process of its own is in `test_streams.py`.
"""

from pathlib import Path

import pytest
from case import Case
from cases import all_cases

from amused_lite import cli
from amused_lite.console.terminal import LONGEST

CASES = all_cases()
TENTH = 10


def test_the_list_is_long() -> None:
    assert len(CASES) >= 500


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """What takes seconds to import, so that no case is blamed for it."""
    from amused_lite.adapters import convert  # noqa: F401
    from amused_lite.runtimes import onnx, torch  # noqa: F401


def _parameters() -> list:
    return [
        pytest.param(case, id=case.name, marks=[] if number % TENTH == 0 else pytest.mark.slow)
        for number, case in enumerate(CASES)
    ]


def _listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", _parameters())
def test_bad_input(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    case.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = _listing(tmp_path)
    code = cli.main(list(case.words))
    out, err = capfd.readouterr()
    assert code == 2, (out, err)
    (line,) = err.splitlines()
    assert line.startswith("amused-lite: error: ") and len(line) <= LONGEST
    assert line.isprintable()
    for word in case.says:
        assert word in line
    assert out == case.prints
    assert _listing(tmp_path) == before

"""What a training and its second round left in their folder, when somebody else wrote it."""

import json
from pathlib import Path
from typing import Any

import pytest
from good import as_text
from mutations import mutations, put

from amused_lite.console.terminal import LONGEST
from amused_lite.style import feedback, monitor
from amused_lite.style.monitor import StyleMonitor

SCORES = {"prompts": ["a cup"], "history": [[100, 0.5, 0.9]]}
ROWS = [{"number": k, "caption": "a cup", "distance": 1.5, "text": 0.25} for k in (1, 2)]
TABLE = {"of": "key", "candidates": ROWS}
TEXTS = ("", "{", "[]", "null", "[" * 100_000, '{"of": "key", "candidates": NaN}')


def _wrong(kind: Any, values: Any) -> list[Any]:
    return [*TEXTS, *(put(values, path, value) for path, value in mutations(kind, values))]


def never() -> Any:
    raise AssertionError("nothing is drawn before the scores are read")


@pytest.mark.parametrize("wrong", _wrong(monitor._Scores, SCORES))
def test_scores(tmp_path: Path, wrong: Any) -> None:
    (tmp_path / monitor.SCORES).write_text(as_text(wrong))
    with pytest.raises(ValueError, match=r"scores\.json.*remove .* to start anew") as refused:
        StyleMonitor(never, ["a cup"], [], tmp_path)
    assert len(str(refused.value)) - len(str(tmp_path)) * 2 < LONGEST


@pytest.mark.parametrize("wrong", _wrong(feedback._Table, TABLE))
def test_candidates_are_drawn_again(tmp_path: Path, wrong: Any) -> None:
    """The table repeats what drawing gives, so that a wrong one is no error."""
    (tmp_path / feedback.TABLE).write_text(as_text(wrong))
    assert feedback._kept(tmp_path / feedback.TABLE, "key") == []


def test_what_is_right_is_read(tmp_path: Path) -> None:
    (tmp_path / feedback.TABLE).write_text(json.dumps(TABLE))
    assert [row.number for row in feedback._kept(tmp_path / feedback.TABLE, "key")] == [1, 2]

"""What is found again after a restart: jobs that were over, and those that were not, drawn as they were asked for."""

import time
from pathlib import Path

import numpy as np
import pytest
from amused_lite.apps.demo.app_state import AppState
from amused_lite.apps.engine.engine import Engine
from amused_lite.apps.engine.history import History
from amused_lite.apps.engine.jobs import DONE, FAILED, Job
from amused_lite.apps.engine.request import Request
from serving import alone, half_mask

from amused_lite.files.images import SourceImage

VISITOR = "v" * 22
OPTIONS = {"steps": 2}


def run(folder: Path) -> AppState:
    """A program with this history, as it starts."""
    app_state = AppState(Engine(threads=1, history=History(folder)), folder / "styles")
    app_state.take_up()
    return app_state


def end(app_state: AppState) -> None:
    """As a crash would: nothing more is written."""
    assert app_state.journal is not None
    app_state.journal.close()
    app_state.engine.abandon()
    app_state.engine.close()
    app_state.close()


def found(app_state: AppState) -> list[Job]:
    return app_state.jobs(VISITOR, [])


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "journal").iterdir() if path.name != ".lock")


def test_what_was_drawn_and_what_waited_is_there_after_a_restart(tmp_path: Path) -> None:
    first, made = run(tmp_path), alone("a red cup", 7, 2)
    assert not (tmp_path / "journal").exists()
    done = first.submit(Request(prompt="a red cup", seed=7, options=OPTIONS), VISITOR)
    done.wait(60)
    inpaint = Request(
        "inpaint", prompt="a blue cup", seed=3, options=OPTIONS, mask=half_mask(), parent=f"{done.id}/0",
        source=SourceImage(made.image, made.recipe),
    )  # fmt: skip
    expected = first.engine.submit(inpaint).wait(60)[0].picture.recipe
    many = first.submit(Request(prompt="a red cup", seed=7, count=3, options={"steps": 6}), VISITOR)
    for now in many.watch():
        if now.finished == 1:
            break
    waiting = first.submit(inpaint, VISITOR)
    assert written(tmp_path) == sorted([*(f"{one.id}.json" for one in (done, many, waiting)),
        f"{waiting.id}.mask.png", f"{waiting.id}.source.png"])  # fmt: skip
    end(first)
    assert many.state == waiting.state == FAILED

    second = run(tmp_path)
    again = {job.id: job for job in found(second)}
    assert list(again) == [done.id, many.id, waiting.id]
    assert again[done.id].state == DONE and again[waiting.id].request.parent == f"{done.id}/0"
    again[many.id].wait(240)
    (result,) = again[waiting.id].wait(60)
    assert [one.picture.recipe.picture for one in again[many.id].results] == [0, 1, 2]
    assert np.array_equal(result.picture.recipe.tokens, expected.tokens)
    assert len(list(tmp_path.glob("*.png"))) == 6  # the first of three was not drawn twice
    until = time.monotonic() + 60  # what is written follows what is told
    while written(tmp_path) != sorted(f"{id}.json" for id in again):
        assert time.monotonic() < until, written(tmp_path)
        time.sleep(0.01)
    second.history.delete(again[done.id].results[0].saved.name)  # type: ignore[union-attr]
    end(second)
    third = run(tmp_path)
    assert [job.id for job in found(third)] == [many.id, waiting.id]
    end(third)


def test_what_shall_not_be_kept_is_not_written_down(tmp_path: Path) -> None:
    app_state = run(tmp_path)
    app_state.submit(Request(prompt="a red cup", options=OPTIONS, keep=False), VISITOR).wait(60)
    assert not list(tmp_path.iterdir())
    cancelled = app_state.submit(Request(prompt="a red cup", options={"steps": 24}), VISITOR)
    app_state.engine.cancel(cancelled)
    list(cancelled.watch())
    until = time.monotonic() + 60
    while written(tmp_path):
        assert time.monotonic() < until, written(tmp_path)
        time.sleep(0.01)
    end(app_state)


def test_a_damaged_journal_and_one_of_another_program_are_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "journal").mkdir()
    for name, text in (("x" * 16, "{"), ("y" * 16, "{}"), ('"><b>', "{}"), ("z" * 16, '{"request": 3}')):
        (tmp_path / "journal" / f"{name}.json").write_text(text)
    first, second = run(tmp_path), run(tmp_path)
    assert "another program keeps it" in capsys.readouterr().err
    job = second.submit(Request(prompt="a red cup", options=OPTIONS), VISITOR)
    job.wait(60)
    assert found(second) == [job] and not found(first) and f"{job.id}.json" not in written(tmp_path)
    end(first)
    end(second)

"""The engine: its pictures are the library's own, whatever else goes on; jobs can be watched, ended and finished."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amused_lite.apps.engine import engine as engine_module
from amused_lite.apps.engine.engine import Engine
from amused_lite.apps.engine.errors import ClosingError, JobCancelledError, JobError, QueueFullError
from amused_lite.apps.engine.history import History
from amused_lite.apps.engine.jobs import Job
from amused_lite.apps.engine.model_cache import ColourTableBuilder
from amused_lite.apps.engine.request import Request
from PIL import Image

from amused_lite.analysis.verify import verify
from amused_lite.pipeline import AmusedPipeline


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def amused() -> AmusedPipeline:
    """The same model without any engine."""
    return AmusedPipeline.open("tiny", threads=1, keep_loaded=True)


def hold(engine: Engine) -> tuple[Job, threading.Event]:
    """Keep the worker busy until the event is set."""
    go = threading.Event()
    job = engine.call(lambda amused: go.wait(30))
    for progress in job.watch():
        if progress.state == "running":
            break
    return job, go


def test_pictures_are_those_made_alone(engine: Engine, amused: AmusedPipeline) -> None:
    asked = [Request(prompt=f"a {colour} cup", seed=seed, options={"steps": 2}, count=2)
             for seed, colour in enumerate(("red", "blue", "red"))]  # fmt: skip
    jobs = [engine.submit(request) for request in asked]
    for request, job in zip(asked, jobs, strict=True):
        for number, result in enumerate(job.wait(60)):
            alone = amused.generate(request.prompt or "", seed=request.seed, image_index=number, steps=2)
            assert np.array_equal(result.picture.recipe.tokens, alone.recipe.tokens)
            assert result.picture.image.tobytes() == alone.image.tobytes()


def test_next_seeds_count_the_seed_up(engine: Engine) -> None:
    results = engine.submit(Request(prompt="a cup", seed=7, count=2, next_seeds=True, options={"steps": 1})).wait(60)
    assert [(r.picture.recipe.seed, r.picture.recipe.picture) for r in results] == [(7, 0), (8, 0)]
    (alone,) = engine.submit(Request(prompt="a cup", seed=8, options={"steps": 1})).wait(60)
    assert np.array_equal(results[1].picture.recipe.tokens, alone.picture.recipe.tokens)


def test_it_is_seen_to_form(engine: Engine) -> None:
    job = engine.submit(Request(prompt="a red balloon", seed=1, options={"steps": 6}))
    steps, previews = [], set()
    for progress in job.watch():
        steps.append(progress.step)
        image = job.preview()
        if image is not None:
            assert image.size == (512, 512)
            previews.add(image.tobytes())
    assert progress.state == "done" and progress.share == 1.0
    assert steps == sorted(steps) and steps[-1] == 6
    assert len(previews) >= 3


def test_a_preview_resembles_the_picture(engine: Engine) -> None:
    """Sampled tokens in mean colours, against the picture itself, both small: far closer than another picture is."""
    jobs = [
        engine.submit(Request(prompt=prompt, seed=1, options={"steps": 8})) for prompt in ("a red cup", "two trees")
    ]
    small = (16, 16)
    pictures = [np.asarray(job.wait(60)[0].picture.image.resize(small), np.float32) for job in jobs]
    preview = np.asarray(jobs[0].preview().resize(small), np.float32)  # type: ignore[union-attr]
    assert np.abs(preview - pictures[0]).mean() < 0.5 * np.abs(preview - pictures[1]).mean()


def test_cancel_ends_it_within_one_step(engine: Engine) -> None:
    job = engine.submit(Request(prompt="a red balloon", options={"steps": 200}))
    for progress in job.watch():
        if progress.step == 3:
            engine.cancel(job)
            break
    with pytest.raises(JobCancelledError):
        job.wait(60)
    assert job.progress().step <= 5  # the step under way when it was seen, and the one under way when it was cancelled
    assert engine.submit(Request(prompt="a cup", options={"steps": 1})).wait(60)


def test_what_waits_is_cancelled_at_once_and_places_move_up(engine: Engine) -> None:
    _, go = hold(engine)
    jobs = [engine.submit(Request(prompt="a cup", options={"steps": 1})) for _ in range(3)]
    assert [job.progress().position for job in jobs] == [1, 2, 3]
    engine.cancel(jobs[0])
    assert jobs[0].over
    assert [job.progress().position for job in jobs[1:]] == [1, 2]
    go.set()
    assert all(job.wait(60) for job in jobs[1:])


def test_stop_finishes_the_guess_and_the_recipe_proves_it(engine: Engine, amused: AmusedPipeline) -> None:
    job = engine.submit(Request(prompt="a red balloon", seed=3, count=4, options={"steps": 100}))
    for progress in job.watch():
        if progress.step == 3 and not progress.stopped:
            engine.stop(job)
    (result,) = job.outcome()
    recipe = result.picture.recipe
    assert recipe.stopped_after is not None and 3 <= recipe.stopped_after <= 5
    assert verify(amused, recipe, result.picture.image).identical
    assert not verify(amused, replace(recipe, stopped_after=recipe.stopped_after - 1)).identical


def test_a_look_inside_changes_nothing(engine: Engine) -> None:
    plain, seen = (
        engine.submit(Request(prompt="a cup", seed=5, options={"steps": 3}, trace=look)).wait(60)[0]
        for look in (False, True)
    )
    assert plain.trace is None and seen.trace is not None
    assert np.array_equal(plain.picture.recipe.tokens, seen.picture.recipe.tokens)
    assert seen.trace.frames.shape == (3, 1024)


MASK = Image.new("L", (512, 512))
MASK.paste(255, (128, 128, 384, 384))
EDITS = {
    "vary": {"settings": {"strength": 0.5}},
    "reroll": {"settings": {"share": 0.2}},
    "edit": {"prompt": "a blue cup"},
    "inpaint": {"prompt": "a blue cup", "mask": MASK},
    "outpaint": {"settings": {"right": 128}},
}


@pytest.mark.parametrize("operation", EDITS)
def test_every_edit_is_the_library_s_own(engine: Engine, amused: AmusedPipeline, operation: str) -> None:
    from amused_lite.editing import operations

    source = amused.generate("a red cup", seed=1, steps=2)
    fields = {"prompt": None, "settings": {}, "mask": None} | EDITS[operation]
    data = bytes(engine_module.JobResult(source).png())
    job = engine.submit(Request(operation, seed=4, options={"steps": 2}, source=data, **fields))
    previews = [job.preview() for _ in job.watch()]
    (result,) = job.outcome()
    words = {name: fields[name] for name in ("prompt", "mask") if fields[name] is not None}
    task = getattr(operations, operation)(amused, source, seed=4, steps=2, **words, **fields["settings"])
    alone = amused.run(task)
    assert result.picture.image.tobytes() == alone.image.tobytes()
    assert np.array_equal(result.picture.recipe.tokens, alone.recipe.tokens)
    shown = previews[-1]
    assert shown is not None
    width, height = result.picture.image.size
    assert shown.width / shown.height == pytest.approx(width / height, abs=0.01)


def test_see_through_parts_are_what_is_filled(engine: Engine, amused: AmusedPipeline) -> None:
    picture = amused.generate("a red cup", seed=1, steps=1).image
    holes = picture.convert("RGBA")
    holes.putalpha(Image.fromarray(255 - np.asarray(MASK)))
    by_alpha = Request("inpaint", "a blue cup", seed=2, options={"steps": 1}, source=_png(holes))
    by_mask = Request("inpaint", "a blue cup", seed=2, options={"steps": 1}, source=_png(holes), mask=_png(MASK))
    first, second = (engine.submit(request).wait(60)[0].picture for request in (by_alpha, by_mask))
    assert first.image.tobytes() == second.image.tobytes()
    kept = np.asarray(MASK) == 0
    assert (np.asarray(first.image)[kept] == np.asarray(picture)[kept]).all()


def _png(image: Image.Image) -> bytes:
    from io import BytesIO

    data = BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": " "}, "empty"),
        ({"prompt": "x" * 10**6}, "1000000 characters"),
        ({"prompt": "a\0b"}, "control"),
        ({"prompt": "a\ud800b"}, "half"),
        ({"prompt": "a", "operation": "paint"}, "unknown"),
        ({"prompt": "a", "count": 0}, "count"),
        ({"prompt": "a", "count": 10**9}, "count"),
        ({"prompt": "a", "seed": -2}, "seed"),
        ({"prompt": "a", "options": {"steps": 0}}, "steps"),
        ({"prompt": "a", "options": {"guidance_scale": float("nan")}}, "guidance_scale"),
        ({"prompt": "a", "options": {"steps": "many"}}, "type"),
        ({"prompt": "a", "options": {"speed": 3}}, "unknown option"),
        ({"prompt": "a", "settings": {"strength": 3}}, "unknown setting"),
        ({"prompt": "a", "operation": "vary", "settings": {"strength": "much"}}, "a number"),
        ({"prompt": "a", "operation": "vary", "settings": {"strength": float("nan")}}, "a number"),
        ({"prompt": "a", "operation": "vary"}, "picture to start from"),
        ({"prompt": "a", "model": "/etc/passwd"}, "not offered"),
        ({"prompt": "a", "adapters": (("../x", 1.0),)}, "not offered"),
        ({"prompt": "a", "runtime": "cuda"}, "unknown"),
    ],
)
def test_what_is_wrong_is_said_before_anyone_waits(engine: Engine, fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        engine.submit(Request(**fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"options": {"steps": 2000}}, "at most 1024"),
        ({"size": (1024, 1024)}, "512x512"),
        ({"operation": "vary", "source": b"no picture"}, "no picture"),
        ({"operation": "vary", "source": Image.new("RGB", (64, 64)), "settings": {"strength": 2.0}}, "strength"),
    ],
)
def test_what_only_the_model_finds_out_fails_the_job_alone(engine: Engine, fields: dict, said: str) -> None:
    with pytest.raises(JobError, match=said) as error:
        engine.submit(Request(prompt="a cup", **fields)).wait(60)
    assert error.value.kind == "input"
    assert engine.submit(Request(prompt="a cup", options={"steps": 1})).wait(60)


def test_the_worker_outlives_faults(engine: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    def fault(amused: AmusedPipeline) -> None:
        raise SystemError("broken")

    with pytest.raises(JobError, match="SystemError") as error:
        engine.call(fault).wait(60)
    assert error.value.kind == "internal" and "broken" in capfd.readouterr().err
    assert engine.call(lambda amused: 7).wait(60) == ()


def test_a_model_that_is_not_there_is_the_job_s_failure(tmp_path: Path) -> None:
    engine = Engine(models=["tiny", str(tmp_path / "gone")], threads=1)
    with pytest.raises(JobError, match="not found") as error:
        engine.submit(Request(prompt="a cup", model=str(tmp_path / "gone"))).wait(60)
    assert error.value.kind == "model"
    engine.close()


def test_the_queue_is_bounded() -> None:
    engine = Engine(threads=1, queue_limit=2)
    _, go = hold(engine)
    waiting = [engine.submit(Request(prompt="a cup", options={"steps": 1})) for _ in range(2)]
    with pytest.raises(QueueFullError) as error:
        engine.submit(Request(prompt="a cup"))
    assert error.value.retry_after >= 1
    engine.cancel(waiting[0])
    engine.submit(Request(prompt="a cup", options={"steps": 1}))
    go.set()
    engine.close()


def test_abandoned_jobs_free_their_place() -> None:
    engine = Engine(threads=1, queue_limit=2)
    _, go = hold(engine)
    left = [engine.submit(Request(prompt="a cup"), lease=0.05) for _ in range(2)]
    time.sleep(0.2)
    kept = engine.submit(Request(prompt="a cup", options={"steps": 1}), lease=0.05)  # full, but for those who left
    end = kept.subscribe(lambda: None)
    assert [job.state for job in left] == ["cancelled", "cancelled"]
    time.sleep(0.2)
    go.set()
    assert kept.wait(60)  # someone was looking all the time
    end()
    gone = engine.submit(Request(prompt="a cup", options={"steps": 500}), lease=0.3)
    while not gone.over:  # a running one ends as well; looking without asking renews nothing
        time.sleep(0.05)
    assert gone.state == "cancelled"
    engine.close()


def test_finished_jobs_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "KEEP_JOBS", 3)
    engine = Engine(threads=1)
    jobs = [engine.submit(Request(prompt="a cup", options={"steps": 1})) for _ in range(5)]
    assert all(job.wait(60) for job in jobs)
    with pytest.raises(KeyError):
        engine.job(jobs[1].id)
    assert [engine.job(job.id) for job in jobs[2:]] == jobs[2:]
    monkeypatch.setattr(engine_module, "KEEP_BYTES", 1)
    last = engine.submit(Request(prompt="a cup", options={"steps": 1}))
    last.wait(60)
    assert engine.job(last.id) is last and len(engine._jobs) == 1
    engine.close()


def test_closing_finishes_what_runs_and_tells_the_rest() -> None:
    engine = Engine(threads=1)
    running = engine.submit(Request(prompt="a cup", options={"steps": 30}))
    for progress in running.watch():
        if progress.step:
            break
    waiting = engine.submit(Request(prompt="a cup"))
    engine.close(grace=60)
    assert running.wait(1)
    with pytest.raises(JobError) as error:
        waiting.wait(1)
    assert error.value.kind == "stopping"
    with pytest.raises(ClosingError):
        engine.submit(Request(prompt="a cup"))


def test_closing_does_not_wait_forever() -> None:
    engine = Engine(threads=1)
    running = engine.submit(Request(prompt="a cup", options={"steps": 1000}))
    for progress in running.watch():
        if progress.step:
            break
    engine.close(grace=0.3)
    with pytest.raises(JobCancelledError, match="stopping"):
        running.wait(60)


def test_pictures_go_into_the_history_unless_their_owner_wants_none_there(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    engine = Engine(threads=1, history=history)
    (kept,) = engine.submit(Request(prompt="a cup", options={"steps": 1})).wait(60)
    (dropped,) = engine.submit(Request(prompt="a cup", options={"steps": 1}, keep=False)).wait(60)
    changed = engine.submit(Request(prompt="a cup", options={"steps": 20}))
    changed.keep = False  # while it is drawn
    assert kept.saved is not None and dropped.saved is None and changed.wait(60)[0].saved is None
    assert len(list((tmp_path / "h").glob("*.png"))) == 1
    engine.close()


def test_colours_can_be_found_for_a_model_without_a_table(amused: AmusedPipeline) -> None:
    from amused_lite.bundle import open_bundle
    from amused_lite.runtimes.open import find_model

    finder, table = ColourTableBuilder(amused), None
    while table is None:
        table = finder.advance()
    given = open_bundle(find_model("tiny")).colours().astype(np.float32)
    apart = np.abs(table - given).mean()
    print(f"mean distance {apart:.2f} grey levels; between random codes {np.abs(given - given[::-1]).mean():.2f}")
    assert apart < 0.25 * np.abs(given - given[::-1]).mean()

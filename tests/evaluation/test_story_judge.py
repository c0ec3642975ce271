"""The judge of the storybook: what it learns from, how it reads pictures, what its figures count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("resvg_py")
from small_drawings import write_sets  # noqa: E402

from amused_lite.evaluation import story_judge, story_lessons, story_metrics  # noqa: E402
from amused_lite.evaluation.story_judge import HEADS, OWN, FoundThing, PageDetection, StoryDetector, StoryJudge  # noqa: E402
from amused_lite.training.storybook.draw import draw, settled  # noqa: E402
from amused_lite.training.storybook.drawings.render import use_folder  # noqa: E402
from amused_lite.training.storybook.prompts import CATEGORIES, StoryPrompt, heldout_prompts  # noqa: E402
from amused_lite.training.storybook.scene import StoryScene  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def drawings(tmp_path_factory: pytest.TempPathFactory) -> None:
    use_folder(write_sets(tmp_path_factory.mktemp("sets")))


@pytest.fixture(scope="module")
def prompts() -> list[StoryPrompt]:
    return heldout_prompts(256)[:40]


def seen(scene: StoryScene) -> PageDetection:
    """What a judge without a fault would say of a render."""
    things = tuple(
        FoundThing(one.kind, scene.hand, one.colour or OWN, one.x + one.side / 2, one.y + one.side / 2, 1.0)
        for one in settled(scene)
    )
    return PageDetection(scene.place, scene.time, scene.weather, things)


def test_a_faultless_judge_finds_renders_right_in_every_respect(prompts: list[StoryPrompt]) -> None:
    figures = story_metrics.score_pages(prompts, [seen(entry.scene) for entry in prompts])
    assert {figure.share for figure in figures} == {1.0}
    assert sum(figure.n for figure in figures[:3]) + figures[4].n + figures[5].n + figures[6].n == len(prompts)
    assert {entry.category for entry in prompts} == set(CATEGORIES)


def test_what_is_wrong_counts_where_it_is_asked_for(prompts: list[StoryPrompt]) -> None:
    def share(name: str, change: object) -> float:
        told = [change(seen(entry.scene)) for entry in prompts]  # type: ignore[operator]
        return {figure.name: figure.share for figure in story_metrics.score_pages(prompts, told)}[name]

    def first(**changes: object) -> object:
        return lambda page: replace(page, things=(replace(page.things[0], **changes), *page.things[1:]))

    assert share("single thing", first(kind="nothing")) == share("two things both right", first(kind="nothing")) == 0
    assert share("hand", first(hand="nobody")) == share("unseen thing in that hand", first(hand="nobody")) == 0
    assert share("unseen thing in that colour", first(colour="grey")) == 0
    assert share("relation", lambda page: replace(page, things=tuple(moved(page)))) == 0
    assert share("count", lambda page: replace(page, things=(*page.things, page.things[0]))) == 0
    for name, field in {"place": "place", "time of day": "time", "weather": "weather"}.items():
        assert share(name, lambda page, field=field: replace(page, **{field: "?"})) == 0


def moved(page: PageDetection) -> list[FoundThing]:
    """The things of a page, mirrored both ways."""
    return [replace(thing, x=-thing.x, y=-thing.y) for thing in page.things]


def test_lessons_follow_from_seed_and_step_and_say_where_things_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_lessons, "BATCH", 12)
    one, again, other = (story_lessons.story_lessons(seed, 3) for seed in (0, 0, 1))
    assert all((a.pixels == b.pixels).all() and a.things == b.things for a, b in zip(one, again, strict=True))
    assert any((a.pixels != b.pixels).any() for a, b in zip(one, other, strict=True))
    assert any(lesson.things is None for lesson in one) and any(len(lesson.things or []) > 1 for lesson in one)
    lesson = next(lesson for lesson in one if lesson.things)
    heat, cells = story_lessons._targets(lesson)
    rows, columns = np.unravel_index(heat.argmax(), heat.shape)
    kind = HEADS["kind"][cells[0, rows, columns]]
    (thing,) = [one for one in lesson.things or [] if one.kind == kind][:1]
    assert abs((columns + 0.5) * story_judge.STRIDE - thing.x - thing.side / 2) <= story_judge.STRIDE


def test_it_learns_and_goes_on_from_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_lessons, "BATCH", 4)
    whole = story_lessons.train_story_judge(tmp_path / "whole", 3)
    trainer = story_lessons.StoryJudgeTrainer(3, 0)
    assert story_lessons.fit(story_lessons.TrainingRun(tmp_path / "cut"), trainer, 3, stop_after=2) is None
    cut = story_lessons.train_story_judge(tmp_path / "cut", 3)
    for name, value in whole.detector.state_dict().items():
        torch.testing.assert_close(cut.detector.state_dict()[name], value, msg=name)
    assert (tmp_path / "cut" / "judge.safetensors").is_file()


def test_pictures_of_both_sizes_are_read_and_others_refused(prompts: list[StoryPrompt], tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = StoryJudge(StoryDetector())
    torch.nn.init.constant_(judge.detector.heads.bias, 2.0)
    judge.save(tmp_path / "judge.safetensors")
    small, large = draw(prompts[0].scene), draw(heldout_prompts(512)[0].scene)
    read = StoryJudge.load(tmp_path / "judge.safetensors")
    for picture in (small, large):
        found = read.detect(picture)
        assert found == judge.detect(picture) and found.things
        assert all(0 <= thing.x <= len(picture) and 0 <= thing.y <= len(picture) for thing in found.things)
    with pytest.raises(ValueError, match="expected a square one of 256 or 512 px"):
        read.detect(small[:, :128])
    with pytest.raises(FileNotFoundError, match="no judge at"):
        StoryJudge.load(tmp_path / "none.safetensors")


def test_nearness_to_renders(prompts: list[StoryPrompt]) -> None:
    renders = [draw(entry.scene) for entry in prompts[:12]]
    blurred = [np.repeat(np.repeat(one[::8, ::8], 8, 0), 8, 1) for one in renders]
    judge = StoryJudge(StoryDetector())
    same = story_metrics.frechet_distance(judge, renders, renders)
    assert same == pytest.approx(0, abs=1e-5)
    assert story_metrics.frechet_distance(judge, blurred, renders) > 10 * abs(same)
    flat = [np.full_like(one, 128) for one in renders]
    assert story_metrics.crispness(flat) == 0 < story_metrics.crispness(renders)

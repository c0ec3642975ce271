"""Watching a style being learned: whether words count, and when to stop. On the bundled model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amused_lite.pipeline import AmusedPipeline, Picture
from amused_lite.style.feedback import StyleCandidate, best, draw_candidates, picked
from amused_lite.style.monitor import Sample, StyleMonitor, draw_samples, text_scores
from amused_lite.training.scenes import STYLE_LOOKS, draw, random_scene

PROMPTS = ["a red star in a meadow", "a blue house at night", "a yellow car in the snow"]


@pytest.fixture(scope="module")
def amused() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", "onnx", threads=1, keep_loaded=True)


@pytest.fixture(scope="module")
def samples(amused: AmusedPipeline) -> list[Sample]:
    return draw_samples(amused, PROMPTS)


def test_a_picture_s_own_prompt_explains_it_best(amused: AmusedPipeline, samples: list[Sample]) -> None:
    own = text_scores(amused, samples)
    assert min(own) > 0
    swapped = [
        replace(sample, prompt=other.prompt) for sample, other in zip(samples, samples[1:] + samples[:1], strict=True)
    ]
    assert np.mean(text_scores(amused, swapped)) < 0  # the mean: some pictures are likely under any prompt
    same = [replace(sample, tokens=samples[0].tokens) for sample in samples]  # one picture, whatever was asked for
    assert np.mean(text_scores(amused, same)) == pytest.approx(0, abs=1e-6)
    assert text_scores(amused, samples[:1]) == [0.0]


def watch(amused: AmusedPipeline, folder: Path, **options: object) -> StyleMonitor:
    references = [STYLE_LOOKS["neon"](draw(random_scene(1, k), 256)) for k in range(3)]
    return StyleMonitor(lambda: amused, PROMPTS[:2], references, folder, **options)  # type: ignore[arg-type]


def test_the_base_has_none_of_the_style_and_all_of_the_words(amused: AmusedPipeline, tmp_path: Path) -> None:
    kept: list[int] = []
    watching = watch(amused, tmp_path, keep=kept.append)
    assert watching(100) == ""
    ((steps, style, text),) = watching.history
    assert (steps, kept) == (100, [100])
    assert style == pytest.approx(0, abs=1e-6) and text == pytest.approx(1, abs=1e-6)
    assert watching.strip(100).exists()


def test_a_training_that_goes_on_knows_its_strips(amused: AmusedPipeline, tmp_path: Path) -> None:
    before = watch(amused, tmp_path)
    before.history = [(100, 0.9, 1.0), (200, 0.1, 1.0), (300, 0.2, 1.0)]
    before._remember()
    after = watch(amused, tmp_path)
    assert after.history == before.history and after.best == 100
    after(200)  # drawn again, since the last checkpoint was older
    assert [steps for steps, *_ in after.history] == [100, 200]
    other = StyleMonitor(lambda: amused, PROMPTS[:1], after.references, tmp_path)
    assert other.history == []  # scores of other pictures


def test_candidates_are_drawn_once_and_for_one_question(
    amused: AmusedPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = [STYLE_LOOKS["negative"](draw(random_scene(1, 0), 256))]
    drawn: list[str] = []
    generate = amused.generate

    def counted(prompt: str, **options: int) -> Picture:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(prompt)
        return generate(prompt, steps=2, **options)

    monkeypatch.setattr(amused, "generate", counted)
    with pytest.raises(KeyboardInterrupt):
        draw_candidates(amused, PROMPTS, "", references, 3, tmp_path)
    assert drawn == PROMPTS[:2]
    drawn.clear()
    found = draw_candidates(amused, PROMPTS, "", references, 3, tmp_path)
    assert drawn == PROMPTS[2:] and [c.caption for c in found] == PROMPTS
    assert found == draw_candidates(amused, PROMPTS, "", references, 3, tmp_path)  # of the table
    drawn.clear()
    assert len(draw_candidates(amused, PROMPTS, "at night", references, 1, tmp_path)) == 1
    assert drawn == [f"{PROMPTS[0]} at night"]


STORIES: list[tuple[list[tuple[float, float]], str]] = [
    ([(0.1, 1.0), (0.3, 0.9), (0.5, 0.9), (0.6, 0.8), (0.7, 0.8)], ""),
    ([(0.5, 1.0), (0.5, 0.9), (0.51, 0.9), (0.5, 0.8)], "the style does not come nearer any more"),
    ([(0.5, 1.0), (0.6, 0.4), (0.7, 0.9)], ""),
    ([(0.5, 1.0), (0.6, 0.4), (0.7, 0.3)], "the prompt's own words count for less and less"),
]


@pytest.fixture(scope="module")
def watching(amused: AmusedPipeline, tmp_path_factory: pytest.TempPathFactory) -> StyleMonitor:
    """Which has drawn what it compares with; each test gives it a history."""
    return watch(amused, tmp_path_factory.mktemp("stories"))


@pytest.mark.parametrize(("story", "reason"), STORIES)
def test_when_it_ends(story: list[tuple[float, float]], reason: str, watching: StyleMonitor) -> None:
    watching.patience = 3
    watching.history = [(100 * (k + 1), *scores) for k, scores in enumerate(story)]
    assert watching._reason() == reason
    watching.patience = 0
    assert watching._reason() == ""
    if reason.startswith("the prompt"):
        assert watching.best == 100  # the last strip that still heeds its words


def candidate(number: int, distance: float, text: float) -> StyleCandidate:
    return StyleCandidate(number, "a boat", Path(f"{number}.png"), distance, text)


def test_the_best_candidates_have_both() -> None:
    made: Callable[[int], StyleCandidate] = {
        1: candidate(1, 0.9, 0.9), 2: candidate(2, 0.1, 0.8), 3: candidate(3, 0.2, 0.1), 4: candidate(4, 0.3, 0.7)
    }.__getitem__  # fmt: skip
    candidates = [made(number) for number in (1, 2, 3, 4)]
    assert [c.number for c in best(candidates, 2)] == [2, 1]
    assert [c.number for c in picked(candidates, [4, 1, 4])] == [4, 1]
    with pytest.raises(ValueError, match="no candidate 5; pick from 1 to 4"):
        picked(candidates, [5])

"""The judge's reading of its heads, the scores on constructed detections, and (slow) a judge that learns."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the judge needs the extra 'train'")
pytest.importorskip("skia", reason="drawing scenes needs the extra 'train'")

from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.evaluation.judge import INPUT, Detection, Detector, Found, Judge, _read, shrink
from amused_lite.evaluation.judge_training import make_lesson, train_judge
from amused_lite.evaluation.metrics import Figure, calibrate, score, table
from amused_lite.training.scenes import COLOURS, KINDS, HeldoutPrompt, Scene, draw, heldout_prompts

RED_BALLOON, BLUE_HOUSE = ("balloon", "red"), ("house", "blue")


def _seen(*things: tuple[str, str, float, float], backdrop: str = "meadow") -> Detection:
    return Detection(backdrop, tuple(Found(*thing, confidence=0.9) for thing in things))


def _shares(category: str, scene: Scene, detection: Detection) -> dict[str, float]:
    figures = score([HeldoutPrompt("", scene, category)], [detection])
    return {figure.name: figure.share for figure in figures if figure.n}


def test_a_perfect_verdict_scores_one_everywhere() -> None:
    prompts = heldout_prompts(40)
    detections = [
        Detection(prompt.scene.backdrop, tuple(Found(t.kind, t.colour, t.x, t.y, 1.0) for t in prompt.scene.things))
        for prompt in prompts
    ]
    figures = score(prompts, detections)
    assert all(figure.share == 1 for figure in figures)
    assert {figure.name: figure.n for figure in figures}["relation right"] == 14


def test_a_pair_with_its_colours_exchanged_has_its_colours_but_not_its_things() -> None:
    scene = Scene("meadow", "flat", "stacked", (RED_BALLOON, BLUE_HOUSE))
    shares = _shares("pair", scene, _seen(("balloon", "blue", 256, 144), ("house", "red", 256, 368)))
    assert shares["colour"] == 1
    assert shares["two objects both right"] == 0
    assert shares["relation right"] == 0


def test_a_pair_the_wrong_way_round_has_its_things_but_not_its_relation() -> None:
    scene = Scene("meadow", "flat", "stacked", (RED_BALLOON, BLUE_HOUSE))
    upside_down = _seen((*RED_BALLOON, 256, 368), (*BLUE_HOUSE, 256, 144))
    shares = _shares("pair", scene, upside_down)
    assert shares["two objects both right"] == 1
    assert shares["relation right"] == 0
    assert shares["all things right and no other"] == 1


def test_beside_is_not_stacked() -> None:
    scene = Scene("meadow", "flat", "beside", (RED_BALLOON, BLUE_HOUSE))
    assert _shares("pair", scene, _seen((*RED_BALLOON, 144, 256), (*BLUE_HOUSE, 368, 256)))["relation right"] == 1
    assert _shares("pair", scene, _seen((*RED_BALLOON, 256, 144), (*BLUE_HOUSE, 256, 368)))["relation right"] == 0


def test_a_count_must_be_exact() -> None:
    scene = Scene("meadow", "flat", "count", (RED_BALLOON,), count=2)
    three = _seen(*((*RED_BALLOON, 100.0 * place, 256) for place in (1, 2, 3)))
    assert _shares("count", scene, three)["count right"] == 0
    assert _shares("count", scene, Detection("sea", three.things[:2]))["count right"] == 1
    assert _shares("count", scene, Detection("sea", three.things[:2]))["backdrop"] == 0


def test_score_refuses_unequal_numbers() -> None:
    with pytest.raises(ValueError, match="1 prompts and 0 detections"):
        score(heldout_prompts(1), [])


def test_table_prints_every_n() -> None:
    text = table({"fresh": [Figure("backdrop", 3, 4)], "shuffled": [Figure("backdrop", 1, 4)]})
    assert "75.0%" in text
    assert "25.0%" in text
    assert "n=4" in text


def test_one_thing_between_two_cells_is_read_once_and_in_the_middle() -> None:
    centre = np.zeros((16, 16), np.float32)
    centre[7:9, 7:9] = 0.9
    kind = np.zeros((len(KINDS), 16, 16), np.float32)
    colour = np.zeros((len(COLOURS), 16, 16), np.float32)
    kind[3], colour[4] = 1, 1
    (thing,) = _read(centre, kind, colour)
    assert (thing.kind, thing.colour, thing.x, thing.y) == ("star", "blue", 256, 256)


def test_shrink_takes_images_and_arrays_and_refuses_oblongs() -> None:
    picture = draw(Scene("sea", "flat", "single", (RED_BALLOON,)))
    np.testing.assert_array_equal(shrink(picture), shrink(Image.fromarray(picture)))
    assert shrink(picture).shape == (INPUT, INPUT, 3)
    with pytest.raises(ValueError, match="square"):
        shrink(picture[:100])


def test_lessons_repeat_with_their_seed() -> None:
    for seed in range(20):
        first, again = (make_lesson(np.random.default_rng(seed)) for _ in range(2))
        assert first.things == again.things
        np.testing.assert_array_equal(first.pixels, again.pixels)
        assert first.pixels.shape == (INPUT, INPUT, 3)


def test_a_judge_is_read_back_as_written(tmp_path: Path) -> None:
    judge = Judge(Detector())
    judge.save(tmp_path / "judge.safetensors")
    picture = draw(Scene("sea", "flat", "single", (RED_BALLOON,)))
    assert Judge.load(tmp_path / "judge.safetensors").detect(picture) == judge.detect(picture)
    with pytest.raises(FileNotFoundError, match="train_judge"):
        Judge.load(tmp_path / "absent.safetensors")


def test_contact_sheet_has_room_for_long_captions(tmp_path: Path) -> None:
    pictures = [np.zeros((32, 32, 3), np.uint8)] * 3
    contact_sheet(pictures, ["short", "a long caption " * 9, ""], tmp_path / "long.png", columns=2)
    contact_sheet(pictures, ["short", "short", ""], tmp_path / "short.png", columns=2)
    with Image.open(tmp_path / "long.png") as long, Image.open(tmp_path / "short.png") as short:
        assert long.width == short.width
        assert long.height > short.height
    with pytest.raises(ValueError, match="one caption for each"):
        contact_sheet(pictures, ["one"], tmp_path / "none.png")


@pytest.mark.slow
def test_a_judge_learns_in_a_hundred_steps(tmp_path: Path) -> None:
    judge = train_judge(100, tmp_path / "judge.safetensors")
    figures = calibrate(judge, heldout_prompts(60))
    # Things come after minutes; first it learns the backdrops.
    assert figures["fresh renders"][0].share > 0.8
    assert figures["shuffled"][0].share < 0.4

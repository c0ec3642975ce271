"""A style guessed from a few pairs: held to looks that are drawn by code, on scenes that made no part of the fit."""

import numpy as np
import pytest

from amused_lite.training.scenes import STYLE_LOOKS, Scene, draw, random_scene
from amused_lite.training.style_guess import StyleGuess, carried_over, recoding

SIZE = 128


def scenes(seed: int, count: int) -> list[Scene]:
    return [random_scene(seed, index, "train") for index in range(count)]


@pytest.mark.parametrize(("look", "share"), [("sepia", 0.35), ("infrared", 0.25), ("blueprint", 0.25), ("chalk", 0.15)])
def test_it_carries_a_look_to_other_scenes(look: str, share: float) -> None:
    """Its error is at most this share of what stands between plain pictures and the look."""
    plain = [draw(scene, SIZE) for scene in scenes(1, 10)]
    guess = StyleGuess.fit(plain, [STYLE_LOOKS[look](picture) for picture in plain])
    others = [draw(scene, SIZE) for scene in scenes(2, 8)]
    truth = [STYLE_LOOKS[look](picture).astype(float) for picture in others]
    left = np.mean([np.abs(guess(picture) - real).mean() for picture, real in zip(others, truth, strict=True)])
    before = np.mean([np.abs(picture - real).mean() for picture, real in zip(others, truth, strict=True)])
    assert left < share * before


def test_plain_pairs_change_little() -> None:
    plain = [draw(scene, SIZE) for scene in scenes(1, 10)]
    other = draw(scenes(2, 1)[0], SIZE)
    assert np.abs(StyleGuess.fit(plain, plain)(other).astype(float) - other).mean() < 6  # of 255: it blurs a little


def test_each_code_takes_the_place_it_has_most_often() -> None:
    plain = np.array([[0, 0, 0, 1, 1, 2], [3, 3, 3, 3, 2, 0]])
    styled = np.array([[5, 5, 5, 5, 4, 4], [4, 5, 5, 5, 6, 6]])
    codes = recoding(plain, styled, 8)
    # 5 stands as often for 0 as for 3, 4 for 1, 2 and 3, 6 for 2 and 0: any of these will do.
    assert codes[5] in (0, 3) and codes[4] in (1, 2, 3) and codes[6] in (0, 2)
    assert set(codes[[0, 1, 2, 3, 7]]) == {4}  # never seen: in the place of a code that is never drawn
    assert codes.dtype == np.int32


def test_what_stood_where_a_code_stood() -> None:
    plain, styled = np.array([0, 0, 0, 0, 1, 1]), np.array([2, 2, 2, 3, 3, 3])
    expected = [[0, 0, 0.75, 0.25], [0, 0, 0, 1], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]  # the last two were never seen
    np.testing.assert_allclose(carried_over(plain, styled, 4), expected)

"""A style guessed from a few pairs: held to looks that are drawn by code, on scenes that made no part of the fit."""

import numpy as np
import pytest

from amused_lite.style.augment import StyleAugmentation
from amused_lite.training.scenes import STYLE_LOOKS, Scene, draw, random_scene

SIZE = 128


def scenes(seed: int, count: int) -> list[Scene]:
    return [random_scene(seed, index, "train") for index in range(count)]


@pytest.mark.parametrize(
    ("look", "share"), [("sepia", 0.35), ("infrared", 0.25), ("blueprint", 0.25), ("chalk", 0.15), ("negative", 0.06)]
)
def test_it_carries_a_look_to_other_scenes(look: str, share: float) -> None:
    """Its error is at most this share of what stands between plain pictures and the look."""
    plain = [draw(scene, SIZE) for scene in scenes(1, 10)]
    augment = StyleAugmentation.fit(plain, [STYLE_LOOKS[look](picture) for picture in plain])
    others = [draw(scene, SIZE) for scene in scenes(2, 8)]
    truth = [STYLE_LOOKS[look](picture).astype(float) for picture in others]
    left = np.mean([np.abs(augment(picture) - real).mean() for picture, real in zip(others, truth, strict=True)])
    before = np.mean([np.abs(picture - real).mean() for picture, real in zip(others, truth, strict=True)])
    assert left < share * before


def test_plain_pairs_change_little() -> None:
    plain = [draw(scene, SIZE) for scene in scenes(1, 10)]
    other = draw(scenes(2, 1)[0], SIZE)
    assert (
        np.abs(StyleAugmentation.fit(plain, plain)(other).astype(float) - other).mean() < 6
    )  # of 255: it blurs a little


def test_one_picture_of_a_negative_turns_what_it_does_not_show() -> None:
    """A bright backdrop teaches what becomes of dark ones: they become bright."""
    bright, dark = (draw(next(s for s in scenes(1, 200) if s.backdrop == name), SIZE) for name in ("desert", "night"))
    augment = StyleAugmentation.fit([bright], [STYLE_LOOKS["negative"](bright)])
    truth = STYLE_LOOKS["negative"](dark).astype(float)
    assert np.abs(augment(dark) - truth).mean() < 0.35 * np.abs(dark - truth).mean()


def test_things_that_lie_elsewhere_are_passed_over() -> None:
    """A tenth of every picture moved aside changes the augment little."""
    plain = [draw(scene, SIZE) for scene in scenes(1, 6)]
    styled = [STYLE_LOOKS["infrared"](picture) for picture in plain]
    moved = [picture.copy() for picture in styled]
    for picture in moved:
        picture[40:80, 40:80] = picture[:40, :40]  # 10 % of its pixels show what lies elsewhere
    other = draw(scenes(2, 1)[0], SIZE)
    before, after = (StyleAugmentation.fit(plain, pictures)(other).astype(float) for pictures in (styled, moved))
    assert np.abs(before - after).mean() < 4

"""The style score tells looks apart, whatever the pictures show, and is not fooled by what they show."""

from dataclasses import replace

import numpy as np
import pytest

from amused_lite.style.score import StyleScale, StyleStatistics, nearest_style, style_features
from amused_lite.training import scenes
from amused_lite.training.scenes import STYLE_LOOKS, UNSEEN_LOOKS, Scene

LOOKS = {"plain": lambda picture: picture, **UNSEEN_LOOKS, **STYLE_LOOKS}


def scene(index: int) -> Scene:
    return replace(scenes.random_scene(5, index, "all"), style="flat")


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[np.ndarray]]:
    """12 pictures of each look; no scene is shown twice, not even in two looks."""
    numbers = iter(range(10_000))
    return {name: [look(scenes.draw(scene(next(numbers)), 256)) for _ in range(12)] for name, look in LOOKS.items()}


def test_held_out_pictures_are_taken_for_their_own_look(pictures: dict[str, list[np.ndarray]]) -> None:
    looks = [StyleStatistics.of(name, some[:6]) for name, some in pictures.items()]
    right = [nearest_style(picture, looks) == name for name, some in pictures.items() for picture in some[6:]]
    print(f"{sum(right)} of {len(right)} held-out pictures of {len(looks)} looks are taken for their own")
    assert np.mean(right) >= 0.85  # of twelve looks; seen: 64 of 72


def test_one_picture_is_enough_to_know_a_look(pictures: dict[str, list[np.ndarray]]) -> None:
    right = []
    for k in range(4):
        looks = [StyleStatistics.of(name, some[k : k + 1]) for name, some in pictures.items()]
        right += [
            nearest_style(p, looks) == name for name, some in pictures.items() if name != "plain" for p in some[6:]
        ]
    print(f"from one picture: {np.mean(right):.1%} of {len(right)}")
    assert np.mean(right) >= 0.7  # by chance one in twelve; seen: 74 %


@pytest.mark.parametrize("name", [name for name in LOOKS if name != "plain"])
def test_the_scale_runs_from_plain_to_the_look(name: str, pictures: dict[str, list[np.ndarray]]) -> None:
    look = StyleStatistics.of(name, pictures[name][:6])
    scale = StyleScale.of(look, pictures["plain"][:6], pictures[name][6:9])
    plain = np.mean([scale.score(picture) for picture in pictures["plain"][6:]])
    real = np.mean([scale.score(picture) for picture in pictures[name][9:]])
    assert abs(plain) < 0.3 and real > 0.7  # means of few pictures that show different things
    half = [
        (0.5 * a + 0.5 * b).astype(np.uint8) for a, b in zip(pictures["plain"][6:9], pictures[name][9:], strict=True)
    ]
    assert plain - 0.1 < np.mean([scale.score(picture) for picture in half]) < real


def test_a_style_has_no_place() -> None:
    picture = scenes.draw(scene(0), 256)
    features = style_features(picture)
    mirrored = style_features(np.ascontiguousarray(picture[:, ::-1]))
    shifted = style_features(np.roll(picture, 64, axis=1))
    other = style_features(STYLE_LOOKS["neon"](picture))
    assert np.linalg.norm(features - shifted) < 0.25 * np.linalg.norm(features - other)
    assert np.linalg.norm(features - mirrored) < 0.25 * np.linalg.norm(features - other)
    assert np.isfinite(style_features(np.zeros((64, 64, 3), np.uint8))).all()

"""Pages of the storybook: the same for ever, on the token grid, true to what they say, drawn as they are laid out."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("skia", reason="drawing scenes needs the extra 'train'")
pytest.importorskip("resvg_py", reason="rendering drawings needs the extra 'train'")

from small_drawings import write_sets

from amused_lite.training.storybook.draw import draw, draw_things, settled
from amused_lite.training.storybook.drawings import render
from amused_lite.training.storybook.drawings.render import drawing, use_folder
from amused_lite.training.storybook.kinds import KINDS, available
from amused_lite.training.storybook.layout import PlacedThing, positions, things
from amused_lite.training.storybook.places import PLACES, TIMES, WEATHERS, backdrop, horizon
from amused_lite.training.storybook.sampling import (
    is_heldout,
    is_unseen_colour,
    is_unseen_pair,
    random_scene,
    unseen_hand,
)
from amused_lite.training.storybook.scene import CANVASES, CELL, MARGIN, SIZES, StoryScene, meaning, micro, suits
from amused_lite.training.storybook.world import Storybook

SIDES = (96, 128, 160, 224)


@pytest.fixture(scope="module")
def scenes() -> list[StoryScene]:
    return [random_scene(3, index, canvas=canvas) for canvas in CANVASES for index in range(3000)]


@pytest.fixture(scope="module")
def made_by_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    use_folder(write_sets(tmp_path_factory.mktemp("sets")))
    yield
    use_folder(render.FOLDER)


def of(scenes: list[StoryScene], **wanted: object) -> list[StoryScene]:
    found = [scene for scene in scenes if all(getattr(scene, name) == value for name, value in wanted.items())]
    assert len(found) > 20
    return found


def overlap(one: PlacedThing, other: PlacedThing) -> bool:
    across = min(one.x + one.side, other.x + other.side) - max(one.x, other.x)
    down = min(one.y + one.side, other.y + other.side) - max(one.y, other.y)
    return across > 0 and down > 0


def test_a_scene_is_the_same_in_another_process() -> None:
    here = repr([random_scene(5, index, "all") for index in range(50)])
    code = (
        "from amused_lite.training.storybook.sampling import random_scene\n"
        "print([random_scene(5, index, 'all') for index in range(50)])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert ran.stdout.strip() == here


def test_training_never_shows_what_is_held_out() -> None:
    hands, colours, pairs = set(), set(), set()
    for canvas in CANVASES:
        for index in range(10_000):
            scene = random_scene(0, index, canvas=canvas)
            kinds = sorted([*scene.kinds, *(extra.kind for extra in scene.clutter)])
            hands |= {(kind, scene.hand) for kind in kinds}
            colours |= {subject for subject in scene.subjects if subject[1]}
            pairs |= set(combinations(kinds, 2))
    assert not hands & {(kind, unseen_hand(kind)) for kind in KINDS}
    assert not {(kind, colour) for kind, colour in colours if is_unseen_colour(kind, colour)}
    assert not {pair for pair in pairs if is_unseen_pair(*pair)}
    assert len(hands) > 0.95 * sum(len(available(kind)) - (unseen_hand(kind) is not None) for kind in KINDS)


def test_how_much_is_held_out() -> None:
    drawn = [(kind, hand) for kind in KINDS for hand in available(kind)]
    assert 0.06 < np.mean([unseen_hand(kind) == hand for kind, hand in drawn]) < 0.10
    assert all(len(set(available(kind)) - {unseen_hand(kind)}) >= 2 for kind in KINDS)
    assert 0.08 < np.mean([is_unseen_pair(*pair) for pair in combinations(KINDS, 2)]) < 0.12
    coloured = [is_unseen_colour(kind, colour) for kind in KINDS for colour in KINDS[kind].colours]
    assert 0.05 < np.mean(coloured) < 0.15
    assert any(is_heldout(random_scene(0, index, "all")) for index in range(100))


def test_every_kind_comes_equally_often(scenes: list[StoryScene]) -> None:
    alone = Counter(scene.kinds[0] for scene in scenes if scene.layout in ("single", "count"))
    assert stats.chisquare([alone[kind] for kind in KINDS]).pvalue > 1e-3


def test_boxes_lie_on_the_token_grid_and_on_the_page(scenes: list[StoryScene]) -> None:
    for scene in scenes:
        for thing in things(scene):
            assert thing.x % CELL == 0 and thing.y % CELL == 0 and thing.side in SIDES, scene
            assert 0 <= thing.x and thing.x + thing.side <= scene.page, scene
            assert 0 <= thing.y and thing.y + thing.side <= scene.page, scene


def test_things_are_where_they_belong(scenes: list[StoryScene]) -> None:
    for scene in scenes:
        there = PLACES[scene.place]
        assert scene.time in there.times and scene.weather in there.weathers
        for thing in things(scene)[len(scene.clutter) :]:
            assert suits(thing.kind, scene.place) or scene.relation == "on", scene
            if thing.footing in ("ground", "water"):
                assert thing.y + thing.side > horizon(scene.page), scene
            elif thing.footing == "air":
                assert there.boundless or KINDS[thing.kind].place == "flies", scene


@pytest.mark.usefixtures("made_by_code")
def test_tokens_are_weighed_where_a_thing_changes_the_picture(scenes: list[StoryScene]) -> None:
    world = Storybook()
    for scene in [*of(scenes, crop=None)[:12], *(scene for scene in scenes if scene.crop)][:24]:
        weights = world.weights(scene)
        rows = scene.canvas // CELL
        assert weights.shape == (rows * rows,)
        changed = (draw(scene) != draw_things(scene, [])).any(-1)
        changed = changed.reshape(rows, CELL, rows, CELL).any((1, 3)).ravel()
        assert (weights[changed] > 1).mean() > 0.7  # a shadow takes a row of cells below a box of four or more
        assert (weights == 1).any()


def test_singles_lie_where_they_are_said_to_be(scenes: list[StoryScene]) -> None:
    for scene in of(scenes, layout="single", crop=None, clutter=()):
        (thing,) = things(scene)
        assert scene.position in positions(scene.place, thing.side, scene.canvas)
        assert thing.side == SIZES[scene.size]
        x, y = thing.x + thing.side / 2 - CELL * scene.shift, thing.y + thing.side / 2
        across, down = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}.get(scene.position, (0, 0))
        assert np.sign(round(x - scene.page / 2)) == across, scene
        if PLACES[scene.place].boundless:
            assert np.sign((y - scene.page / 2) // (2 * CELL)) == down or abs(y - scene.page / 2) <= CELL, scene


def test_pairs_lie_as_they_are_said_to(scenes: list[StoryScene]) -> None:
    for relation in ("left of", "above", "behind"):
        for scene in of(scenes, relation=relation):
            first, second = things(scene)[len(scene.clutter) :]
            assert (first.kind, second.kind) == scene.kinds
            if relation == "left of":
                assert first.x + first.side <= second.x, scene
            elif relation == "above":
                assert first.y + first.side <= second.y, scene
            else:  # painted first, farther up the ground, and partly hidden
                assert first.y + first.side < second.y + second.side and overlap(first, second), scene
                assert first.x + first.side / 2 < second.x, scene


def test_counts_and_groups_show_every_thing_whole(scenes: list[StoryScene]) -> None:
    for layout in ("count", "group"):
        for scene in of(scenes, layout=layout):
            boxes = things(scene)
            assert len(boxes) == (scene.count if layout == "count" else len(scene.subjects))
            assert not any(overlap(*pair) for pair in combinations(boxes, 2)), scene


@pytest.mark.usefixtures("made_by_code")
def test_what_stands_on_a_thing_touches_it(scenes: list[StoryScene]) -> None:
    for scene in of(scenes, relation="on")[:60]:
        lower, upper = settled(scene)[len(scene.clutter) :]
        assert (upper.kind, lower.kind) == scene.kinds
        assert upper.x % CELL == 0 and upper.y % CELL == 0 and upper.y >= 0
        alpha = drawing(scene.hand, lower.kind, lower.side, lower.colour)[..., 3]
        top = lower.y + int(np.flatnonzero((alpha > 127).any(1))[0])
        assert 0 <= upper.y + upper.side - top < 2 * CELL, scene


@pytest.mark.usefixtures("made_by_code")
def test_a_crop_is_the_part_it_says(scenes: list[StoryScene]) -> None:
    for scene in [scene for scene in scenes if scene.crop is not None][:40]:
        top, left = scene.crop or (0, 0)
        page = draw(replace(scene, canvas=scene.canvas + MARGIN, crop=None))
        assert np.array_equal(draw(scene), page[top : top + scene.canvas, left : left + scene.canvas])
        numbers = micro(scene)
        assert (numbers.crop_top, numbers.crop_left) == (top, left)
        assert numbers.width == numbers.height == scene.canvas + MARGIN


def test_a_crop_leaves_most_of_each_thing(scenes: list[StoryScene]) -> None:
    cropped = [scene for scene in scenes if scene.crop is not None]
    assert 0.05 < len(cropped) / len(scenes) < 0.2
    for scene in cropped:
        top, left = scene.crop or (0, 0)
        for thing in things(scene):
            down = min(thing.y + thing.side, top + scene.canvas) - max(thing.y, top)
            across = min(thing.x + thing.side, left + scene.canvas) - max(thing.x, left)
            assert down * across >= 0.75 * thing.side**2, scene


def test_clutter_scores_lower_than_any_clean_page(scenes: list[StoryScene]) -> None:
    clean = [micro(scene).aesthetic_score for scene in scenes if not scene.clutter]
    cluttered = [micro(scene).aesthetic_score for scene in scenes if scene.clutter]
    assert 6 <= min(clean) and max(clean) == 7
    assert 3 <= min(cluttered) and max(cluttered) <= 5


@pytest.mark.usefixtures("made_by_code")
def test_pictures_come_out_the_same_and_differ_by_every_respect() -> None:
    scene = StoryScene("meadow", "day", "clear", "flat", "single", (("car", None),))
    changes = [{"place": "farm"}, {"time": "night"}, {"weather": "rain"}, {"hand": "ink"}, {"size": "big"}]
    changes += [{"position": "left"}, {"variant": 1}, {"shift": 1}, {"subjects": (("car", "blue"),)}]
    pictures = [draw(scene), *(draw(replace(scene, **change)) for change in changes)]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert np.array_equal(draw(scene), pictures[0])
    for canvas in CANVASES:
        picture = draw(replace(scene, canvas=canvas))
        assert picture.shape == (canvas, canvas, 3) and picture.dtype == np.uint8


@pytest.mark.usefixtures("made_by_code")
def test_a_thing_keeps_its_pixels_at_every_canvas() -> None:
    """The small canvas is what the transformer learns first, so a drawing has the same tokens there."""
    scene = StoryScene("paper", "day", "clear", "shaded", "single", (("cat", None),), size="medium")
    parts = []
    for canvas in CANVASES:
        (thing,) = things(replace(scene, canvas=canvas))
        picture = draw(replace(scene, canvas=canvas))
        parts.append(picture[thing.y : thing.y + thing.side, thing.x : thing.x + thing.side])
    assert all(np.array_equal(part, parts[0]) for part in parts)


@pytest.mark.usefixtures("made_by_code")
def test_a_thing_like_its_backdrop_is_outlined() -> None:
    scene = StoryScene("snow", "day", "clear", "flat", "single", (("car", "white"),), size="big")
    (thing,) = things(scene)
    rim = draw(scene)[thing.y + thing.side // 2, thing.x - 4 : thing.x + thing.side + 4]
    dark = draw(replace(scene, subjects=(("car", "black"),)))[thing.y + thing.side // 2, thing.x - 4 : thing.x]
    behind = backdrop("snow", "day", "clear", 0, 512)[thing.y + thing.side // 2, thing.x - 4 : thing.x]
    assert rim.min() < 120
    assert np.array_equal(dark, behind)  # a black car needs no rim


@pytest.mark.parametrize("place", PLACES)
def test_places_differ_by_time_and_weather_and_mirror(place: str) -> None:
    there = PLACES[place]
    assert set(there.times) <= set(TIMES) and set(there.weathers) <= set(WEATHERS)
    for side in (*CANVASES, *(canvas + MARGIN for canvas in CANVASES)):
        seen = {backdrop(place, time, weather, 0, side).tobytes() for time in there.times for weather in there.weathers}
        assert len(seen) == len(there.times) * len(there.weathers)
    plain = backdrop(place, there.times[0], there.weathers[0], 0, 256)
    assert np.array_equal(plain[:, ::-1], backdrop(place, there.times[0], there.weathers[0], 1, 256))


def test_meaning_leaves_out_what_is_unsaid() -> None:
    scene = StoryScene("meadow", "day", "clear", "flat", "single", (("car", None),))
    assert meaning(scene) == meaning(replace(scene, variant=1, shift=-1, canvas=256, crop=(16, 32)))
    assert meaning(scene) != meaning(replace(scene, position="left"))

"""The editing cases and what counts as done, without a model: detections are written from the scenes themselves."""

import numpy as np
import pytest
from PIL import Image

from amused_lite.evaluation.editing import (
    CHANGES,
    Case,
    EditOutcome,
    changing_cases,
    figures,
    is_all_as_said,
    is_changed,
    is_replaced,
    replacing_cases,
    steps_at,
)
from amused_lite.evaluation.judge import Detection, Found
from amused_lite.training.scenes import Scene, is_heldout

BLANK = Image.new("RGB", (8, 8))


def detection(scene: Scene, backdrop: str | None = None, leave_out: int | None = None) -> Detection:
    things = [thing for place, thing in enumerate(scene.things) if place != leave_out]
    found = tuple(Found(thing.kind, thing.colour, thing.x, thing.y, 0.9) for thing in things)
    return Detection(backdrop or scene.backdrop, found)


def result(case: Case, seen: Detection) -> EditOutcome:
    return EditOutcome(case, BLANK, seen)


@pytest.mark.parametrize("make", [replacing_cases, changing_cases])
def test_cases_are_fixed_and_of_what_training_knows(make: object) -> None:
    assert callable(make)
    cases = make(24)
    assert cases == make(30)[:24]
    assert len({case.before for case in cases}) > 20
    for case in cases:
        assert not is_heldout(case.after) and case.before != case.after
        assert case.after.backdrop in case.prompt


def test_replacing_changes_one_thing_in_kind_and_colour_and_masks_it() -> None:
    cases = replacing_cases(24)
    assert sum(len(case.before.things) == 2 for case in cases) == 12
    for case in cases:
        pairs = list(zip(case.before.things, case.after.things, strict=True))
        changed = [place for place, (old, new) in enumerate(pairs) if old != new]
        assert changed == [case.place]
        old, new = pairs[case.place]
        assert old.kind != new.kind and old.colour != new.colour and (old.x, old.y) == (new.x, new.y)
        white = np.asarray(case.mask) > 0
        rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
        half = old.size // 2
        assert columns[0] <= max(old.x - half, 0) and columns[-1] >= min(old.x + half, 512) - 1
        assert rows[0] <= max(old.y - half, 0) and rows[-1] >= min(old.y + half, 512) - 1
        for place, other in enumerate(case.before.things):
            if place != case.place:
                assert not white[other.y, other.x]


def test_replaced_means_the_new_thing_the_old_rest_and_nothing_else() -> None:
    case = replacing_cases(2)[1]
    assert len(case.before.things) == 2
    assert is_replaced(result(case, detection(case.after)))
    assert not is_replaced(result(case, detection(case.before)))
    assert not is_replaced(result(case, detection(case.after, leave_out=1 - case.place)))
    other = next(name for name in ("sea", "desert") if name != case.before.backdrop)
    assert not is_replaced(result(case, detection(case.after, other)))


def test_changed_asks_for_the_named_attribute_only() -> None:
    for case, name in zip(changing_cases(12), CHANGES * 4, strict=True):
        old, new = case.before.subjects[0], case.after.subjects[0]
        differs = {
            "colour": old[1] != new[1],
            "kind": old[0] != new[0],
            "backdrop": case.before.backdrop != case.after.backdrop,
        }
        assert differs == {key: key == name for key in CHANGES}
        assert is_changed(result(case, detection(case.after))) and is_all_as_said(result(case, detection(case.after)))
        assert not is_changed(result(case, detection(case.before)))
        if name == "backdrop":
            gone = result(case, detection(case.after, leave_out=0))
            assert is_changed(gone) and not is_all_as_said(gone)


def test_figures_count() -> None:
    replaced = [result(case, detection(case.after if case.number < 3 else case.before)) for case in replacing_cases(8)]
    changed = [result(case, detection(case.after)) for case in changing_cases(6)]
    found = {figure.name.strip(): (figure.right, figure.n) for figure in figures(replaced, changed)}
    assert found["replaced, rest unchanged"] == (3, 8)
    assert found["of them alone"] == (2, 4) and found["of them in pairs"] == (1, 4)
    assert found["attribute changed"] == (6, 6) and found["of them kind"] == (2, 2)


def test_a_step_is_measured_where_it_is() -> None:
    pixels = np.zeros((4, 10, 3), np.uint8)
    pixels[:, 6:] = 30
    pixels[0, 6:] = 3
    assert steps_at(Image.fromarray(pixels), 6).tolist() == [3, 30, 30, 30]
    assert steps_at(Image.fromarray(pixels), 5).tolist() == [0, 0, 0, 0]

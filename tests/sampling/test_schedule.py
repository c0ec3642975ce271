"""The schedule against lists pinned from the published scheduler's float32 arithmetic."""

import math
from itertools import pairwise

import numpy as np
import pytest

from amused_lite.sampling.schedule import SCHEDULES, first_step_for, mask_ratio, mask_schedule, start_masked

PINNED = {
    (256, 4): [236, 181, 97, 0],
    (256, 8): [251, 236, 212, 181, 142, 97, 49, 0],
    (256, 12): [253, 247, 236, 221, 203, 181, 155, 127, 97, 66, 33, 0],
    (256, 16): [254, 251, 244, 236, 225, 212, 197, 181, 162, 142, 120, 97, 74, 49, 25, 0],
    (256, 18): [255, 252, 247, 240, 232, 221, 209, 196, 181, 164, 146, 127, 108, 87, 66, 44, 22, 0],
    (256, 20): [255, 252, 248, 243, 236, 228, 218, 207, 194, 181, 166, 150, 133, 116, 97, 79, 59, 40, 20, 0],
    (256, 24): [
        *(255, 253, 251, 247, 242, 236, 229, 221, 212, 203, 192, 181),
        *(168, 155, 142, 127, 113, 97, 82, 66, 49, 33, 16, 0),
    ],
    (1024, 4): [946, 724, 391, 0],
    (1024, 8): [1004, 946, 851, 724, 568, 391, 199, 0],
    (1024, 12): [1015, 989, 946, 886, 812, 724, 623, 511, 391, 265, 133, 0],
    (1024, 16): [1019, 1004, 979, 946, 903, 851, 791, 724, 649, 568, 482, 391, 297, 199, 100, 0],
    (1024, 18): [1020, 1008, 989, 962, 928, 886, 838, 784, 724, 658, 587, 511, 432, 350, 265, 177, 89, 0],
    (1024, 20): [1020, 1011, 995, 973, 946, 912, 873, 828, 778, 724, 665, 601, 535, 464, 391, 316, 239, 160, 80, 0],
    (1024, 24): [
        *(1021, 1015, 1004, 989, 969, 946, 918, 886, 851, 812, 769, 724),
        *(675, 623, 568, 511, 452, 391, 329, 265, 199, 133, 66, 0),
    ],
}


@pytest.mark.parametrize(("size", "steps"), PINNED)
def test_schedule_is_the_published_one(size: int, steps: int) -> None:
    assert mask_schedule(size, steps) == PINNED[size, steps]


@pytest.mark.parametrize(("size", "steps"), [(1, 1), (1, 5), (3, 12), (256, 1), (100, 37), (1024, 1024)])
def test_schedule_falls_to_zero(size: int, steps: int) -> None:
    schedule = mask_schedule(size, steps)
    assert len(schedule) == steps
    assert schedule[-1] == 0
    assert all(1 <= count < max(size, 2) for count in schedule[:-1])
    assert all(later < earlier or later == 1 for earlier, later in pairwise(schedule) if later)


def test_late_entry_leaves_out_the_earlier_steps() -> None:
    assert mask_schedule(1024, 12, first_step=8) == PINNED[1024, 12][8:]


@pytest.mark.parametrize("arguments", [(0, 12), (256, 0), (256, 12, 12), (256, 12, -1)])
def test_impossible_schedules_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="got"):
        mask_schedule(*arguments)


@pytest.mark.parametrize(("strength", "first"), [(1.0, 0), (0.9, 2), (0.7, 4), (0.5, 6), (0.3, 9), (1 / 12, 11)])
def test_strength_enters_late(strength: float, first: int) -> None:
    assert first_step_for(strength, 12) == first


@pytest.mark.parametrize(("strength", "masked"), [(1.0, 1024), (0.9, 989), (0.7, 886), (0.5, 724), (0.3, 391)])
def test_strength_masks_what_the_published_schedule_says(strength: float, masked: int) -> None:
    assert start_masked(1024, 12, first_step_for(strength, 12)) == masked


def test_less_than_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"less than one step; give 0\.083 or more"):
        first_step_for(0.08, 12)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_falls_from_one_to_zero(name: str) -> None:
    ratios = mask_ratio(np.linspace(0, 1, 101), name)
    np.testing.assert_allclose(ratios[[0, -1]], [1, 0], atol=1e-6)
    assert (np.diff(ratios) < 0).all()
    counts = mask_schedule(1024, 12, schedule=name)
    assert counts == sorted(counts, reverse=True) and counts[-1] == 0


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="'sine' is unknown; choose one of cosine, linear"):
        mask_ratio(0.5, "sine")


@pytest.mark.parametrize("strength", [0, -0.5, 1.01, math.nan])
def test_impossible_strengths_are_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength"):
        first_step_for(strength, 12)


def test_ratio_is_float32_for_numbers_and_arrays() -> None:
    ratios = mask_ratio(np.linspace(0, 1, 5))
    assert ratios.dtype == np.float32
    np.testing.assert_allclose(ratios, [1, math.cos(math.pi / 8), math.sqrt(0.5), math.sin(math.pi / 8), 0], atol=1e-6)
    assert float(mask_ratio(0.25)) == ratios[1]

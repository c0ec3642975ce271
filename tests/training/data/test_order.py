"""The stream of samples: every sample once an epoch, the same for any number of processes, and no pattern in it."""

import numpy as np
import pytest
from scipy.stats import chisquare, spearmanr

from amused_lite.training.data.order import EpochOrder, permuted


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 255, 256, 257, 1000])
def test_an_epoch_shows_every_sample_once(size: int) -> None:
    for epoch in range(3):
        assert sorted(permuted(np.arange(size), size, 5, epoch)) == [*range(size)]


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = [permuted(np.arange(5000), 5000, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for i, one in enumerate(orders):
        assert abs(spearmanr(np.arange(5000), one).statistic) < 5 / 5000**0.5  # five standard errors
        for other in orders[:i]:
            assert abs(spearmanr(one, other).statistic) < 5 / 5000**0.5
    first = [int(permuted(np.arange(1), 16, seed, 0)[0]) for seed in range(3200)]
    assert chisquare(np.bincount(first, minlength=16)).pvalue > 1e-4


def test_the_stream_does_not_depend_on_how_it_is_cut() -> None:
    order = EpochOrder(seed=3, size=37)
    whole = order.samples(0, 200)
    assert np.array_equal(np.concatenate([order.samples(place, 8) for place in range(0, 200, 8)]), whole)
    assert np.array_equal(order.samples(150, 50), whole[150:])
    for epoch in range(5):
        assert sorted(whole[epoch * 37 : (epoch + 1) * 37]) == [*range(37)]
    assert not np.array_equal(whole[:37], whole[37:74])


def test_a_growing_set_shows_what_exists_when_an_epoch_begins() -> None:
    order = EpochOrder(seed=3, size=1000, first=100, growth=0.5)
    whole = order.samples(0, 5000)
    start, size = 0, 100
    while size < 1000:
        assert sorted(whole[start : start + size]) == [*range(size)]
        start, size = start + size, min(1000, int(100 + 0.5 * (start + size)))
    assert sorted(whole[start : start + 1000]) == [*range(1000)]
    assert np.array_equal(np.concatenate([order.samples(place, 7) for place in range(0, 4900, 7)]), whole[:4900])

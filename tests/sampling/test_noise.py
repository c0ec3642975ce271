"""Noise: pinned, finite, Gumbel-distributed, and its own for every picture, step and stream."""

import math

import numpy as np
import pytest

from amused_lite.sampling.noise import MAX_SEED, gumbel, mask_noise, order_noise, token_noise


def test_values_are_pinned() -> None:
    # A change here changes every picture ever made with a seed.
    first = [[-1.2118838, -1.4954509, 0.7110986], [-0.3511371, -0.0065188, -0.7859070]]
    np.testing.assert_allclose(token_noise(0, 0, 0, 2, 3), first, rtol=0, atol=1e-6)
    np.testing.assert_allclose(order_noise(7, 3, 5, 4), [-0.4059378, 0.6823665, 4.6117969, 2.1705849], atol=1e-6)
    np.testing.assert_allclose(mask_noise(7, 3, 5, 4), [-1.2795372, 0.0507750, 0.1410219, 1.4045688], atol=1e-6)


def test_is_finite_and_standard_gumbel() -> None:
    draws = np.stack([token_noise(1, 0, step, 1024, 1024) for step in range(8)])  # 8 M: where 24 bits gave infinity
    assert draws.dtype == np.float32
    assert np.isfinite(draws).all()
    assert draws.min() > -2.9 and draws.max() < 16.7
    assert abs(draws.mean(dtype=np.float64) - 0.5772157) < 2e-3
    assert abs(draws.std(dtype=np.float64) - math.pi / math.sqrt(6)) < 2e-3


def test_a_shorter_draw_is_the_beginning_of_a_longer_one() -> None:
    np.testing.assert_array_equal(gumbel(5, 1, 2, 0, (101,)), gumbel(5, 1, 2, 0, (10, 50)).ravel()[:101])


def test_rows_that_nobody_looks_at_change_no_other_row() -> None:
    needed = np.random.default_rng(3).random(300) < 0.6  # runs of all lengths, and 300 * 1024 is more than one chunk
    whole, part = token_noise(5, 1, 2, 300, 1024), token_noise(5, 1, 2, 300, 1024, needed)
    np.testing.assert_array_equal(part[needed], whole[needed])
    assert not part[~needed].any()
    np.testing.assert_array_equal(token_noise(5, 1, 2, 9, 3, needed[:9]), token_noise(5, 1, 2, 9, 3))  # odd sizes: all


def test_every_key_has_its_own_stream() -> None:
    pictures = (0, 1, 2**32 - 1)
    keys = [(s, p, t, stream) for s in (0, 1, MAX_SEED) for p in pictures for t in (0, 1) for stream in (0, 1, 2)]
    drawn = {gumbel(*key, (16,)).tobytes() for key in keys}
    assert len(drawn) == len(keys)


@pytest.mark.parametrize("key", [(-1, 0, 0), (MAX_SEED + 1, 0, 0), (0, 2**32, 0), (0, -1, 0), (0, 0, 2**31)])
def test_keys_that_do_not_fit_are_refused(key: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be 0 to"):
        gumbel(*key, 0, (4,))

"""The host's distribution against exact small distributions, the graphs' own step and SciPy's Halton points."""

import numpy as np
import pytest
import torch
from scipy import stats

from amused_lite.models.unmask import UnmaskTail
from amused_lite.sampling import noise
from amused_lite.sampling.distribution import (
    TokenDistribution,
    draw_tokens,
    halton_noise,
    halton_order,
    log_prob_of,
    remask,
    truncate,
    unmask,
)

PROBABILITIES = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
LOG_PROBS = np.log(PROBABILITIES).astype(np.float32)
DRAWS = 40_000
ALPHA = 1e-4  # a right distribution fails one fixed seed in ten thousand; a wrong one fails by many orders of magnitude


@pytest.mark.parametrize(
    ("token_distribution", "kept"),
    [
        (TokenDistribution(), 6),
        (TokenDistribution(token_temperature=0.5), 6),
        (TokenDistribution(token_temperature=2.0), 6),
        (TokenDistribution(top_k=3), 3),
        (TokenDistribution(token_temperature=0.7, top_k=2), 2),
        (TokenDistribution(top_p=0.7), 3),  # 0.4 + 0.25 < 0.7 <= 0.8
        (TokenDistribution(top_p=0.65), 2),  # reached exactly
        (TokenDistribution(top_k=4, top_p=0.7), 2),  # 0.65 of the 0.9 that top-k left is 0.72
        (TokenDistribution(token_temperature=1.5, top_p=0.95), 5),
        (TokenDistribution(min_p=0.3), 3),  # 0.3 times 0.4 is 0.12
    ],
)
def test_draws_follow_the_exact_law(token_distribution: TokenDistribution, kept: int) -> None:
    exact = np.where(np.arange(6) < kept, PROBABILITIES, 0) ** (1 / token_distribution.token_temperature)
    exact[kept:] = 0
    token_noise = noise.token_noise(11, 0, 0, DRAWS, 6)[None]
    drawn = draw_tokens(np.broadcast_to(LOG_PROBS, (1, DRAWS, 6)), token_distribution, token_noise)
    counts = np.bincount(drawn[0], minlength=6)
    assert counts[kept:].sum() == 0
    p_value = stats.chisquare(counts[:kept], DRAWS * exact[:kept] / exact.sum()).pvalue
    print(f"{token_distribution}: {counts.tolist()}, chi-square p = {p_value:.3f}")
    assert p_value > ALPHA


def test_ties_stay_in_together() -> None:
    even = np.log(np.full((1, 4), 0.25, np.float32))
    np.testing.assert_array_equal(truncate(even, top_k=2), even)
    np.testing.assert_array_equal(truncate(even, top_p=0.5), even)


def test_the_likeliest_is_never_left_out() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    for kept in (truncate(rows, top_k=1), truncate(rows, top_p=1e-6), truncate(rows, top_k=1, top_p=0.5)):
        np.testing.assert_array_equal((kept > -np.inf).sum(-1), 1)
        np.testing.assert_array_equal(kept.argmax(-1), rows.argmax(-1))


def test_nothing_bent_equals_the_step_in_the_graphs() -> None:
    rng = np.random.default_rng(5)
    rows, count, codes, mask = 2, 64, 40, 50
    logits = rng.normal(size=(rows, count, codes), scale=3).astype(np.float32)
    tokens = np.where(rng.random((rows, count)) < 0.7, mask, rng.integers(0, codes, (rows, count))).astype(np.int32)
    token_noise = np.stack([noise.token_noise(1, k, 0, count, codes) for k in range(rows)])
    order_noise = np.stack([noise.order_noise(1, k, 0, count) for k in range(rows)])
    num_masked = np.array([20, 31], np.int32)
    scalars = [torch.tensor([0.8]), torch.tensor([1.5])]
    arrays = [torch.from_numpy(array) for array in (num_masked, token_noise, order_noise)]
    *expected, log_probs = UnmaskTail(mask)(torch.from_numpy(logits), torch.from_numpy(tokens), *scalars, *arrays)
    got = unmask(tokens, log_probs.numpy(), TokenDistribution(0.8), 1.5, num_masked, token_noise, order_noise, mask)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())


def test_remask_keeps_equal_confidences_at_the_edge_together() -> None:
    confidence = np.array([[0.1, 0.5, 0.5, 0.9]], np.float32)
    sampled_tokens = np.array([[1, 2, 3, 4]], np.int32)
    assert remask(confidence, sampled_tokens, np.array([2], np.int32), 9).tolist() == [[9, 2, 3, 4]]
    assert remask(confidence, sampled_tokens, np.array([0], np.int32), 9).tolist() == [[1, 2, 3, 4]]


def test_log_prob_of_picks_each_tokens_own() -> None:
    log_probs = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    assert log_prob_of(log_probs, np.array([[0, 5, 2, 1]])).tolist() == [[0, 11, 14, 19]]


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (16, 16), (32, 32), (5, 7)])
def test_halton_order_is_its_definition(grid: tuple[int, int]) -> None:
    """SciPy's points (base 2, then base 3), their cells, first visits only."""
    height, width = grid
    points = stats.qmc.Halton(2, scramble=False).random(200 * height * width)[1:]  # SciPy starts at the origin
    # SciPy and we add the same digits in another order: a point on a cell's edge may round to either side of it.
    cells = np.floor(points[:, 1] * height + 1e-9) * width + np.floor(points[:, 0] * width + 1e-9)
    _, first = np.unique(cells.astype(int), return_index=True)
    expected = cells[np.sort(first)]
    order = halton_order(grid)
    assert sorted(order.tolist()) == list(range(height * width))
    np.testing.assert_array_equal(order, expected)


def test_halton_noise_outweighs_every_confidence() -> None:
    order = halton_order((32, 32))
    confidence = np.random.default_rng(1).uniform(-200, 0, 1024).astype(np.float32) + halton_noise((32, 32))
    np.testing.assert_array_equal(np.argsort(-confidence, kind="stable"), order)


@pytest.mark.parametrize("min_p", [0.05, 0.5, 1.0])
def test_min_p_keeps_what_transformers_keeps(min_p: float) -> None:
    import libraries  # noqa: F401

    warpers = pytest.importorskip("transformers.generation.logits_process")
    logits = torch.randn(20, 64, generator=torch.Generator().manual_seed(3))
    expected = warpers.MinPLogitsWarper(min_p)(None, logits).isfinite().numpy()
    np.testing.assert_array_equal(np.isfinite(truncate(logits.log_softmax(-1).numpy(), min_p=min_p)), expected)
    assert expected.any(-1).all() and not expected.all()

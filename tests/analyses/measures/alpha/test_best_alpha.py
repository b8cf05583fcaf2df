"""The vertex of accuracy over alpha: found where it is, refused where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from analyses.measures.alpha.best_alpha import best_alpha, is_monotonic
from gradscope.errors import UsageError

ALPHAS = np.array([-0.3, -0.1, 0.1, 0.3, 0.5])


def curves(best, *, steepness=1.0, noise=0.002, seed=0):
    rng = np.random.default_rng(seed)
    top = 0.9 - steepness * (ALPHAS - best) ** 2
    return top + rng.normal(0, noise, (10, ALPHAS.size))


def test_a_planted_vertex_is_found_with_its_interval():
    found = best_alpha(curves(0.17), ALPHAS)
    assert found.low < 0.17 < found.high
    assert found.high - found.low < 0.02
    assert found.is_identified
    assert found.of_seeds.mean() == pytest.approx(0.17, abs=0.01)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        found = best_alpha(curves(0.1, noise=0.01, seed=seed), ALPHAS, n_resamples=300)
        hits += found.low <= 0.1 <= found.high
    # Percentile intervals of ten seeds cover a little less than 95 %.
    assert 0.85 <= hits / 200 <= 0.99


@pytest.mark.parametrize(
    ("steepness", "best"), [(0.0, 0.1), (-1.0, 0.1), (1.0, 0.9)], ids=["flat", "valley", "beyond"]
)
def test_no_top_within_the_range_is_not_identified(steepness, best):
    found = best_alpha(curves(best, steepness=steepness), ALPHAS)
    assert not found.is_identified
    assert -0.3 <= found.alpha <= 0.5


def test_a_rising_line_is_best_at_its_end():
    assert best_alpha(np.tile(ALPHAS, (3, 1)), ALPHAS).alpha == 0.5


def test_one_seed_has_no_interval_and_identifies_nothing():
    found = best_alpha(curves(0.17)[:1], ALPHAS)
    assert found.alpha == pytest.approx(0.17, abs=0.02)
    assert np.isnan([found.low, found.high]).all()
    assert not found.is_identified


def test_three_alphas_are_refused():
    with pytest.raises(UsageError, match="needs four alphas or more; got 3"):
        best_alpha(np.ones((3, 3)), [0, 1, 2])


def test_monotonic_allows_standing_still():
    assert is_monotonic([3, 3, 1])
    assert not is_monotonic([1, 3, 2])

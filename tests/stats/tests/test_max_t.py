import numpy as np
import pytest

from gradscope.stats.tests.max_t import max_t
from gradscope.stats.tests.sign_flip import sign_flip


def correlated(rng, n_studies, n, shape):
    """Maps whose neighbours resemble each other: random walks down the first axis, heavy tails."""
    return np.cumsum(rng.standard_t(4, (n_studies, n, *shape)), axis=2)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_one_cell_is_the_sign_flip_test(alternative):
    x = np.random.default_rng(0).normal(0.5, 1, (9, 1))
    p = max_t(x, 0.2, alternative=alternative).p_value[0]
    assert p == sign_flip(x[:, 0], 0.2, alternative=alternative).p_value


def test_family_wise_level_on_correlated_maps(within_binomial):
    x = correlated(np.random.default_rng(1), 400, 8, (12, 3))
    false = sum((max_t(maps).p_value <= 0.05).any() for maps in x)
    assert within_binomial(false, 400, 12 / 256)


def test_joint_intervals_cover_the_whole_map():
    x = correlated(np.random.default_rng(2), 300, 12, (10, 2)) + 1.5
    results = [max_t(maps) for maps in x]
    covered = sum(((r.low <= 1.5) & (r.high >= 1.5)).all() for r in results)
    # Flipped residuals are a little short at a dozen units: 95 % asked, above 91 % reached.
    assert covered / 300 > 0.91


def test_finds_the_planted_cells_and_no_other():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 12, 5, 6))
    x[:, :, 2, 3:] += 3.0
    planted = np.zeros((5, 6), dtype=bool)
    planted[2, 3:] = True
    p = np.array([max_t(maps).p_value for maps in x])
    assert (p[:, planted] <= 0.05).mean() > 0.95
    assert (p[:, ~planted] <= 0.05).any(axis=1).mean() < 0.15


def test_many_units_use_random_flips_in_parts(monkeypatch):
    x = np.random.default_rng(4).normal(0.3, 1, (30, 50))
    whole = max_t(x, n_random=300)
    monkeypatch.setattr("gradscope.stats.tests.max_t._AT_ONCE", 1000)
    np.testing.assert_array_equal(max_t(x, n_random=300).p_value, whole.p_value)
    assert whole.n_flips == 301


def test_a_cell_that_never_moves_is_not_found():
    x = np.random.default_rng(5).normal(size=(10, 3))
    x[:, 1] = 0.0
    result = max_t(x)
    assert result.t[1] == 0.0
    assert result.p_value[1] == 1.0
    assert "of 3 cells differ" in str(result)

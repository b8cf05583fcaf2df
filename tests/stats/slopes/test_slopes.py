"""Least-squares and Theil–Sen slopes."""

import numpy as np
import pytest
from scipy import stats

from gradscope.stats.slopes.ols import ols_slope, ols_slopes
from gradscope.stats.slopes.theil_sen import theil_sen_slope

BOTH = pytest.mark.parametrize("estimator", [ols_slope, theil_sen_slope])


@BOTH
def test_exact_line(estimator):
    x = np.array([0.0, 1, 3, 7, 8])
    result = estimator(2.0 - 0.5 * x, x)
    assert result.estimate == pytest.approx(-0.5)
    assert result.intercept == pytest.approx(2.0)


@BOTH
def test_level_and_coverage_under_independent_noise(estimator, within_binomial):
    x = np.arange(20)
    noise = np.random.default_rng(2).normal(size=(600, 20))
    results = [estimator(0.1 * x + e, x) for e in noise]
    # Theil–Sen's ranks are discrete: its interval may cover a little more than it says.
    covered = sum(r.low <= 0.1 <= r.high for r in results)
    assert within_binomial(covered, 600, 0.95) or 0.95 < covered / 600 < 0.985
    null = sum(estimator(e, x).p_value <= 0.05 for e in noise)
    assert within_binomial(null, 600, 0.05) or null < 30


@BOTH
def test_finds_a_planted_slope(estimator):
    x = np.arange(15)
    noise = np.random.default_rng(3).normal(0, 0.5, (100, 15))
    assert sum(estimator(0.2 * x + e, x).p_value < 0.01 for e in noise) >= 99


def test_hand_computed_theil_sen():
    # Points (0, 0), (1, 2), (2, 1), (4, 6): pair slopes 2, ½, 1.5, −1, 4/3, 2.5;
    # sorted −1, ½, 4/3, 1.5, 2, 2.5, so the median is (4/3 + 3/2) / 2 = 17/12.
    assert theil_sen_slope([0, 2, 1, 6], [0, 1, 2, 4]).estimate == pytest.approx(17 / 12)


def test_one_wild_point_moves_least_squares_only():
    x = np.arange(11.0)
    y = x.copy()
    y[-1] = 1000.0
    assert theil_sen_slope(y, x).estimate == pytest.approx(1.0)
    assert ols_slope(y, x).estimate > 40


def test_least_squares_agrees_with_scipy():
    x, y = np.random.default_rng(5).normal(size=(2, 12))
    ours, theirs = ols_slope(y, x), stats.linregress(x, y)
    assert ours.estimate == pytest.approx(theirs.slope)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.intercept == pytest.approx(theirs.intercept)


@BOTH
def test_flat_line_has_no_effect(estimator):
    result = estimator(np.ones(8), np.arange(8))
    assert result.estimate == 0.0
    assert result.p_value == 1.0


@BOTH
def test_refuses_one_place(estimator):
    with pytest.raises(ValueError, match="`x` must not be constant"):
        estimator([1, 2, 3], [4, 4, 4])


def test_many_slopes_agree_with_scipy_and_leave_gaps_out():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=9), rng.normal(size=(3, 9, 2))
    y[1, 4, 0] = np.nan
    slopes = ols_slopes(y, x, axis=1)
    for i, j in np.ndindex(3, 2):
        known = np.isfinite(y[i, :, j])
        assert slopes[i, j] == pytest.approx(stats.linregress(x[known], y[i, known, j]).slope)


def test_many_slopes_are_missing_where_no_line_is():
    nan = np.nan
    assert np.isnan(ols_slopes([[1.0, nan, nan], [nan, nan, nan]], [0.1, 0.2, 0.3])).all()
    with pytest.raises(ValueError, match=r"each of the 2 values .* got shape \(3,\)"):
        ols_slopes([[1.0, 2.0]], [1, 2, 3])

import numpy as np
import pytest
from scipy import stats

from gradscope.stats.intervals.student_t import student_t_mean


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_agrees_with_scipy(alternative):
    x = np.random.default_rng(0).normal(0.3, 1, 12)
    ours = student_t_mean(x, 0.1, alternative=alternative)
    theirs = stats.ttest_1samp(x, 0.1, alternative=alternative)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-10)
    interval = stats.ttest_1samp(x, 0.1).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))


def test_without_spread_the_p_is_certain():
    assert student_t_mean([1, 1, 1]).p_value == 0.0
    assert student_t_mean([1, 1, 1], null=1.0).p_value == 1.0
    assert student_t_mean([1, 1, 1], alternative="less").p_value == 1.0


@pytest.mark.parametrize("n", [3, 6, 7])
def test_rounding_makes_no_spread_of_equal_values(n):
    # The mean of seven times 0.1 is 0.1 less a rounding error, which is no distance.
    assert np.mean([0.1] * n) != 0.1
    same = student_t_mean([0.1] * n, null=0.1)
    assert (same.p_value, same.low, same.high) == (1.0, 0.1, 0.1)
    assert student_t_mean([0.1] * n).p_value == 0.0


def test_interval_covers(within_binomial):
    x = np.random.default_rng(1).normal(2.0, 3.0, (1000, 6))
    hits = sum((r := student_t_mean(row)).low <= 2.0 <= r.high for row in x)
    assert within_binomial(hits, 1000, 0.95)

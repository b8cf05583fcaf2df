import math

import numpy as np
import pytest

from gradscope.stats.intervals.fieller import fieller_ratio
from gradscope.stats.intervals.student_t import student_t_mean


def test_hand_computed():
    # y = (3, 5), x = (1, 1.5): means 4 and 1.25, variances of means 1 and 1/16, covariance 1/4
    # (y = 4x − 1). t(1) at 75 % (50 % confidence) is 1, so a = 1.5625 − 0.0625 = 1.5,
    # b = 5 − 0.25 = 4.75, c = 16 − 1 = 15 and r = (4.75 ± √(22.5625 − 22.5)) / 1.5 = 3 and 10/3.
    result = fieller_ratio([3, 5], [1, 1.5], confidence=0.5)
    assert result.estimate == pytest.approx(3.2)
    assert (result.low, result.high) == pytest.approx((3.0, 10 / 3))


def test_ends_are_where_the_t_test_turns():
    rng = np.random.default_rng(0)
    y, x = rng.normal(3, 1, 12), rng.normal(5, 1, 12)
    result = fieller_ratio(y, x)
    for end in (result.low, result.high):
        assert student_t_mean(y - end * x).p_value == pytest.approx(0.05, rel=1e-6)
        assert fieller_ratio(y, x, null=end).p_value == pytest.approx(0.05, rel=1e-6)


def test_a_doubtful_denominator_is_not_bounded():
    # x̄ = 0.1 with error 1: every ratio is possible for a small y; a clear y excludes ratios near 0.
    x = np.array([-1.9, 2.1, -1.9, 2.1])
    everything = fieller_ratio([0.1, -0.1, 0.3, 0.1], x)
    assert (everything.set_form, everything.low) == ("everything", -math.inf)
    outside = fieller_ratio([50.0, 50.1, 49.9, 50.0], x)
    assert outside.set_form == "outside"
    assert outside.low < 0 < outside.high
    assert not outside.low < outside.estimate < outside.high


def test_covers_also_where_the_denominator_is_weak(within_binomial):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(600):
        y, x = rng.normal(2, 1, 8), rng.normal(0.5, 1, 8)
        r = fieller_ratio(y, x)
        inside = r.low <= 4.0 <= r.high
        hits += {"interval": inside, "outside": not r.low < 4.0 < r.high}.get(r.set_form, True)
    assert within_binomial(hits, 600, 0.95)


def test_level_and_planted_ratio(within_binomial):
    rng = np.random.default_rng(2)
    null = [fieller_ratio(*rng.normal(2, 1, (2, 10))).p_value <= 0.05 for _ in range(600)]
    assert within_binomial(sum(null), 600, 0.05)
    assert fieller_ratio(rng.normal(6, 1, 10), rng.normal(2, 1, 10)).p_value < 0.001


def test_zero_denominator_is_refused():
    with pytest.raises(ValueError, match="`x` must not have mean 0"):
        fieller_ratio([1, 2], [-1, 1])

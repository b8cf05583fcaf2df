import numpy as np
import pytest
from scipy import stats

from gradscope.stats.tests.tost import tost


def test_is_two_one_sided_t_tests():
    x = np.random.default_rng(0).normal(0.1, 1, 15)
    result = tost(x, 0.7)
    assert result.p_above_low == pytest.approx(
        stats.ttest_1samp(x, -0.7, alternative="greater").pvalue
    )
    assert result.p_below_high == pytest.approx(
        stats.ttest_1samp(x, 0.7, alternative="less").pvalue
    )
    assert result.p_value == max(result.p_above_low, result.p_below_high)


def test_equivalence_is_the_interval_within_the_margins():
    rng = np.random.default_rng(1)
    for x in rng.normal(0.2, 1, (200, 10)):
        result = tost(x, 0.8)
        assert result.is_equivalent == (result.low > -0.8 and result.high < 0.8)


def test_an_effect_at_the_margin_passes_at_the_level(within_binomial):
    x = np.random.default_rng(2).normal(1.0, 0.5, (1000, 10))
    assert within_binomial(sum(tost(row, 1.0).is_equivalent for row in x), 1000, 0.05)


def test_no_effect_is_found_and_few_data_show_nothing():
    rng = np.random.default_rng(3)
    assert all(tost(row, 1.0).is_equivalent for row in rng.normal(0, 0.5, (50, 12)))
    # Far from significant, yet no evidence of absence: a wide interval is not equivalence.
    assert not tost([-3.0, 3.0, 0.5], 1.0).is_equivalent


def test_equal_values_at_the_margin_are_not_within_it():
    assert tost([0.1] * 7, 0.1).p_value == 1.0
    assert tost([0.1] * 7, 0.2).p_value == 0.0


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_margins_must_be_positive(margin):
    with pytest.raises(ValueError, match="`margin` must be positive and finite"):
        tost([1, 2, 3], margin)

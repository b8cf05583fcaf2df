import numpy as np
import pytest

from gradscope.stats.intervals.student_t import student_t_mean
from gradscope.stats.tests.power import (
    needed_seeds,
    paired_t_power,
    seeds_to_attain,
    smallest_attainable_p,
)
from gradscope.stats.tests.sign_flip import sign_flip


@pytest.mark.parametrize("n", [2, 5, 9])
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_smallest_p_is_attained(n, alternative):
    least = smallest_attainable_p(n, alternative=alternative)
    assert sign_flip(np.ones(n) + np.arange(n), alternative=alternative).p_value == least


def test_seeds_by_hand():
    # 2^(1−n) ≤ 0.05 from n = 6 (0.03125), one-sided 2^−n from n = 5 (0.03125).
    assert seeds_to_attain(0.05) == 6
    assert seeds_to_attain(0.05, alternative="less") == 5


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_power_is_what_simulation_finds(alternative, within_binomial):
    x = np.random.default_rng(0).normal(0.8, 1.0, (1000, 10))
    found = sum(student_t_mean(row, alternative=alternative).p_value <= 0.05 for row in x)
    assert within_binomial(found, 1000, paired_t_power(0.8, 10, alternative=alternative))


def test_sign_flips_reach_nearly_the_same_power():
    x = np.random.default_rng(1).normal(1.0, 1.0, (500, 10))
    found = np.mean([sign_flip(row).p_value <= 0.05 for row in x])
    assert found == pytest.approx(paired_t_power(1.0, 10), abs=0.06)


def test_power_without_effect_is_the_level():
    assert paired_t_power(0.0, 12, level=0.03) == pytest.approx(0.03)
    assert paired_t_power(-0.7, 12, alternative="less") == pytest.approx(
        paired_t_power(0.7, 12, alternative="greater")
    )


@pytest.mark.parametrize("effect", [0.3, 0.9, 2.0])
def test_needed_seeds_are_the_fewest(effect):
    n = needed_seeds(effect, 0.9, level=0.01)
    assert paired_t_power(effect, n, level=0.01) >= 0.9
    assert n == seeds_to_attain(0.01) or paired_t_power(effect, n - 1, level=0.01) < 0.9


def test_hopeless_designs_say_so():
    with pytest.raises(ValueError, match="needs more than 100000 seeds"):
        needed_seeds(1e-4)
    with pytest.raises(ValueError, match="needs more than 100000 seeds"):
        needed_seeds(0.5, alternative="less")
    with pytest.raises(ValueError, match="`n` must be at least 1; got 0"):
        smallest_attainable_p(0)

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from gradscope.stats.tests.sign_flip import sign_flip, sign_patterns


def test_hand_computed():
    # (3, 1, −1) sums to 3. The eight sums are ±5, ±3 (twice), ±1: with |s| ≥ 3 are 6 of 8; with
    # s ≥ 3: 5, 3, 3, so 3 of 8; with s ≤ 3 all but 5: 7 of 8.
    x = [3, 1, -1]
    assert sign_flip(x).p_value == 6 / 8
    assert sign_flip(x, alternative="greater").p_value == 3 / 8
    assert sign_flip(x, alternative="less").p_value == 7 / 8


def test_agrees_with_scipy():
    x = np.random.default_rng(0).normal(0.4, 1, 9)
    theirs = stats.permutation_test(
        (x,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater"
    )
    assert sign_flip(x, alternative="greater").p_value == pytest.approx(theirs.pvalue)


def test_patterns_are_all_of_them():
    assert sorted(map(tuple, sign_patterns(3, n_random=1, seed=0))) == sorted(
        product((-1.0, 1.0), repeat=3)
    )


def test_smallest_p_is_what_protocols_count_on():
    assert sign_flip(np.arange(1, 9)).p_value == 2 / 2**8
    assert sign_flip(np.arange(1, 11)).p_value == 2 / 2**10


def test_interval_is_the_test_inverted():
    x = np.random.default_rng(1).normal(size=8)
    result = sign_flip(x, confidence=0.9)
    inside = [result.low + 1e-9, result.high - 1e-9, result.estimate]
    outside = [result.low - 1e-9, result.high + 1e-9]
    assert all(sign_flip(x, mu).p_value > 0.1 for mu in inside)
    assert all(sign_flip(x, mu).p_value <= 0.1 for mu in outside)


def test_interval_ends_are_subset_means():
    # n = 6 at 95 %: ⌊0.025 · 64⌋ = 1 gap is cut at each end, leaving smallest to largest mean of a
    # subset, which are the smallest and largest values themselves.
    x = [5.0, -1.0, 2.0, 8.0, 3.0, 4.0]
    result = sign_flip(x)
    assert (result.low, result.high) == (-1.0, 8.0)
    means = sorted(np.mean(c) for k in range(1, 7) for c in combinations(x, k))
    wider = sign_flip(x, confidence=0.9)  # ⌊0.05 · 64⌋ = 3
    assert (wider.low, wider.high) == pytest.approx((means[2], means[-3]))


def test_five_units_cannot_carry_95_per_cent():
    assert sign_flip([1, 2, 3, 4, 5]).low == -np.inf


@pytest.mark.parametrize("n", [8, 20], ids=["exact", "random"])
def test_level_and_coverage_under_heavy_tails(n, within_binomial):
    x = np.random.default_rng(2).standard_t(2, (400, n))
    results = [sign_flip(row, n_random=999) for row in x]
    # 8 units attain 12/256 = 0.047 below 0.05; 20 units about 0.05.
    rate = 12 / 256 if n == 8 else 0.05
    assert within_binomial(sum(r.p_value <= 0.05 for r in results), 400, rate)
    assert within_binomial(sum(not r.low <= 0 <= r.high for r in results), 400, rate)


def test_finds_a_planted_effect():
    x = np.random.default_rng(3).normal(2.0, 1.0, (100, 10))
    assert sum(sign_flip(row).p_value <= 0.01 for row in x) >= 95


def test_random_flips_are_seeded_and_never_zero():
    x = np.random.default_rng(4).normal(3, 1, 30)
    result = sign_flip(x, n_random=199)
    assert not result.is_exact
    assert result.p_value == 1 / 200
    assert result == sign_flip(x, n_random=199)

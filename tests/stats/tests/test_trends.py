"""Page's and Jonckheere–Terpstra's tests."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from gradscope.stats.tests.jonckheere_terpstra import jonckheere_terpstra
from gradscope.stats.tests.page_trend import page_trend


def test_page_by_enumeration():
    # Three rows of four: every one of (4!)^3 orders, L = Σ j · rank.
    rows = np.array([[1, 2, 4, 3], [2, 1, 3, 4], [1, 3, 2, 4]])
    per_row = [np.dot(order, [1, 2, 3, 4]) for order in permutations([1, 2, 3, 4])]
    sums = np.add.outer(np.add.outer(per_row, per_row), per_row)
    observed = sum(np.dot(row, [1, 2, 3, 4]) for row in rows)
    result = page_trend(rows)
    assert result.statistic == observed
    assert result.p_value == pytest.approx(np.mean(sums >= observed))


def test_page_effect_is_the_mean_spearman_correlation():
    rows = np.random.default_rng(0).normal(size=(6, 5))
    expected = np.mean([stats.spearmanr(row, np.arange(5)).statistic for row in rows])
    assert page_trend(rows).estimate == pytest.approx(expected)


def test_page_predicts_a_fall():
    rows = [[3.0, 2.0, 1.0]] * 5
    assert page_trend(rows, [3, 2, 1]).estimate == pytest.approx(1.0)
    assert page_trend(rows).estimate == pytest.approx(-1.0)


def test_page_level_and_power(within_binomial):
    rng = np.random.default_rng(1)
    null = [page_trend(rng.normal(size=(10, 5))).p_value for _ in range(500)]
    # p is discrete: the level is the largest attainable p below 0.05, within a hundredth.
    assert sum(p <= 0.05 for p in null) <= stats.binom.ppf(0.9995, 500, 0.05)
    assert np.mean(null) == pytest.approx(0.5, abs=0.06)
    trend = 0.5 * np.arange(5)
    assert all(page_trend(trend + rng.normal(size=(10, 5))).p_value < 0.01 for _ in range(50))


def test_page_errors():
    with pytest.raises(ValueError, match="at least 3 columns"):
        page_trend([[1, 2], [1, 2]])
    with pytest.raises(ValueError, match="each rank from 1 to 3 once"):
        page_trend([[1, 2, 3], [1, 2, 3]], [0, 1, 2])


def test_jonckheere_by_enumeration():
    # Groups of 2, 1 and 2: all 5! orders of the ranks, J counted pair by pair.
    def count(order):
        groups = order[:2], order[2:3], order[3:]
        return sum(
            b > a for i in range(3) for j in range(i + 1, 3) for a in groups[i] for b in groups[j]
        )

    null = np.array([count(order) for order in permutations(range(5))])
    for order in [(0, 1, 2, 3, 4), (2, 0, 1, 4, 3), (4, 3, 2, 1, 0), (1, 4, 0, 2, 3)]:
        groups = [order[:2], order[2:3], order[3:]]
        result = jonckheere_terpstra(groups)
        assert result.is_exact
        assert result.statistic == count(order)
        assert result.p_value == pytest.approx(np.mean(null >= count(order)))
        less = jonckheere_terpstra(groups, alternative="less").p_value
        assert less == pytest.approx(np.mean(null <= count(order)))


def test_jonckheere_of_two_groups_is_mann_whitney():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=7), rng.normal(size=9)
    theirs = stats.mannwhitneyu(b, a, alternative="greater", method="exact")
    ours = jonckheere_terpstra([a, b])
    assert ours.statistic == theirs.statistic
    assert ours.p_value == pytest.approx(theirs.pvalue)


def test_jonckheere_ties_agree_with_permutation():
    rng = np.random.default_rng(3)
    groups = [rng.integers(0, 5, 10) + shift for shift in (0, 0, 1)]
    ours = jonckheere_terpstra(groups)
    assert not ours.is_exact
    pooled = np.concatenate(groups)
    shuffled = [
        jonckheere_terpstra(np.split(rng.permutation(pooled), [10, 20])).statistic
        for _ in range(2000)
    ]
    # 2,000 shuffles know p to about 0.01; the normal approximation is as good here.
    assert ours.p_value == pytest.approx(np.mean(np.array(shuffled) >= ours.statistic), abs=0.025)


def test_jonckheere_two_groups_with_ties_have_mann_whitneys_variance():
    a, b = [1, 2, 2, 3, 5], [2, 3, 3, 4, 6, 6]
    theirs = stats.mannwhitneyu(b, a, alternative="less", method="asymptotic", use_continuity=False)
    assert jonckheere_terpstra([a, b], alternative="less").p_value == pytest.approx(theirs.pvalue)


def test_jonckheere_level_and_power(within_binomial):
    rng = np.random.default_rng(4)
    null = [jonckheere_terpstra(rng.normal(size=(4, 8))).p_value <= 0.05 for _ in range(800)]
    assert within_binomial(sum(null), 800, 0.048) or sum(null) < 40
    shift = np.arange(4)[:, None]
    found = [jonckheere_terpstra(rng.normal(size=(4, 8)) + shift).p_value < 0.01 for _ in range(50)]
    assert all(found)


def test_jonckheere_of_one_value_and_of_one_group():
    assert jonckheere_terpstra([[1, 1], [1, 1, 1]]).p_value == 1.0
    with pytest.raises(ValueError, match="at least two groups; got 1"):
        jonckheere_terpstra([[1, 2]])

"""Studentised, BCa and block bootstrap."""

import numpy as np
import pytest
from scipy import signal, stats

from gradscope.stats.bootstrap.bca import bca_bootstrap
from gradscope.stats.bootstrap.block import block_bootstrap, optimal_block_length
from gradscope.stats.bootstrap.studentised import studentised_bootstrap
from gradscope.stats.intervals.student_t import student_t_mean


def ar1(rng, phi, shape):
    noise = rng.normal(size=(*shape[:-1], shape[-1] + 200))
    return signal.lfilter([1.0], [1.0, -phi], noise)[..., 200:]


def test_studentised_follows_skew_and_covers():
    rng = np.random.default_rng(0)
    x = rng.exponential(1.0, (400, 15))
    results = [studentised_bootstrap(row, 1.0, n_resamples=599) for row in x]
    covered = np.mean([r.low <= 1.0 <= r.high for r in results])
    plain = np.mean([(t := student_t_mean(row)).low <= 1.0 <= t.high for row in x])
    # Student's interval misses right-skewed means; the bootstrap repairs most of it.
    assert covered > plain
    assert 0.92 < covered < 0.98
    above = [r.high - r.estimate > r.estimate - r.low for r in results]
    assert np.mean(above) > 0.8


def test_studentised_level_and_power(within_binomial):
    rng = np.random.default_rng(1)
    null = [studentised_bootstrap(r, n_resamples=599).p_value for r in rng.normal(size=(400, 12))]
    assert within_binomial(sum(p <= 0.05 for p in null), 400, 0.05)
    found = [studentised_bootstrap(r, n_resamples=599).p_value for r in rng.normal(2, 1, (40, 12))]
    assert max(found) < 0.02


def test_studentised_takes_any_statistic_with_its_error():
    # For the mean of 2x the interval is twice the interval of the mean, from the same draws.
    x = np.random.default_rng(2).normal(size=20)
    double = studentised_bootstrap(
        x,
        statistic=lambda v: 2 * v.mean(axis=-1),
        standard_error=lambda v: 2 * v.std(axis=-1, ddof=1) / np.sqrt(v.shape[-1]),
    )
    assert double.low == pytest.approx(2 * studentised_bootstrap(x).low)
    assert double.quantity == "statistic"


def test_studentised_refuses_data_without_spread():
    with pytest.raises(ValueError, match="`x` has no spread"):
        studentised_bootstrap([1.0, 1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="`x` has no spread"):
        studentised_bootstrap([0.1] * 6)


def test_studentised_omits_resamples_without_spread_at_any_scale():
    # A third of the resamples are seven times the same value, whose mean is rounded if it is 0.1.
    exact = studentised_bootstrap([1.0] * 6 + [2.0])
    scaled = studentised_bootstrap([0.1] * 6 + [0.2])
    assert (10 * scaled.low, 10 * scaled.high) == pytest.approx((exact.low, exact.high))


def test_bca_is_scipys():
    x = np.random.default_rng(3).exponential(1, 30)
    theirs = stats.bootstrap(
        (x,), np.std, n_resamples=500, method="BCa", random_state=np.random.default_rng(7)
    ).confidence_interval
    ours = bca_bootstrap(x, np.std, n_resamples=500, seed=7)
    assert (ours.low, ours.high) == (theirs.low, theirs.high)


def test_bca_covers_where_it_is_allowed():
    x = np.random.default_rng(4).exponential(1.0, (300, 40))
    hits = sum((r := bca_bootstrap(row, n_resamples=599)).low <= 1.0 <= r.high for row in x)
    # Second-order correct: at n = 40 of an exponential about 93 %; three standard errors of 1.4 %.
    assert 0.89 < hits / 300 < 0.98


def test_bca_refuses_few_units_and_no_spread():
    with pytest.raises(ValueError, match="`x` needs at least 20 values; got 10"):
        bca_bootstrap(np.arange(10))
    with pytest.raises(ValueError, match=r"some spread; got 20 times 1\.0"):
        bca_bootstrap(np.ones(20))


def test_blocks_cover_where_single_values_do_not():
    x = ar1(np.random.default_rng(5), 0.7, (200, 600))
    blocks = [block_bootstrap(row, n_resamples=299) for row in x]
    singles = [block_bootstrap(row, n_resamples=299, block_length=1) for row in x]
    # τ = 1.7 / 0.3 = 5.7, so the series is worth 106 values; single values give an interval short
    # by √5.7 and cover P(|z| < 1.96 / 2.38) = 59 %.
    assert np.mean([r.low <= 0 <= r.high for r in blocks]) > 0.87
    assert np.mean([r.low <= 0 <= r.high for r in singles]) == pytest.approx(0.59, abs=0.11)


def test_blocks_find_a_planted_level():
    x = ar1(np.random.default_rng(6), 0.5, (50, 400)) + 1.0
    assert np.mean([block_bootstrap(row, n_resamples=199).low > 0 for row in x]) > 0.95


def test_block_length_grows_with_memory():
    # Politis and White for AR(1): b ≈ (2 · (2φ/(1−φ²))² / (4/3))^(1/3) n^(1/3), since G/Σ R =
    # 2φ/(1−φ²): at φ = 0.8, n = 4000 that is (1.5 · 19.75)^(1/3) · 15.9 = 49.
    x = ar1(np.random.default_rng(7), 0.8, (30, 4000))
    assert np.median([optimal_block_length(row) for row in x]) == pytest.approx(49, rel=0.3)
    noise = np.random.default_rng(8).normal(size=(30, 1000))
    assert np.median([optimal_block_length(row) for row in noise]) < 8


def test_blocks_of_the_whole_ring_know_one_mean():
    x = np.random.default_rng(9).normal(size=30)
    result = block_bootstrap(x, block_length=30)
    assert (result.low, result.high) == pytest.approx((x.mean(), x.mean()))
    with pytest.raises(ValueError, match="from 1 to 30; got 31"):
        block_bootstrap(x, block_length=31)

import numpy as np
import pytest
from scipy import signal

from gradscope.stats.series_memory import autocorrelation, autocorrelation_time


def test_by_the_definition():
    x = np.random.default_rng(0).normal(size=50)
    c = x - x.mean()
    expected = [np.dot(c[: 50 - k], c[k:]) / np.dot(c, c) for k in range(50)]
    np.testing.assert_allclose(autocorrelation(x), expected, atol=1e-12)


@pytest.mark.parametrize(("phi", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0)])
def test_ar1_has_its_known_time(phi, expected):
    noise = np.random.default_rng(1).normal(size=(20, 20_000))
    x = signal.lfilter([1.0], [1.0, -phi], noise)
    times = [autocorrelation_time(row).estimate for row in x]
    # One series of 20,000 knows τ = 19 to about 10 %; the mean of twenty to 3 %.
    assert np.mean(times) == pytest.approx(expected, rel=0.07)


def test_the_mean_of_a_series_is_as_sure_as_its_effective_n():
    x = signal.lfilter([1.0], [1.0, -0.8], np.random.default_rng(2).normal(size=(400, 2000)))
    n_effective = np.mean([autocorrelation_time(row).effective_n for row in x])
    assert x.mean(axis=1).var() == pytest.approx(x.var() / n_effective, rel=0.25)


def test_short_series_say_so():
    walk = np.cumsum(np.random.default_rng(3).normal(size=100))
    assert not autocorrelation_time(walk).is_reliable
    assert autocorrelation_time(np.random.default_rng(4).normal(size=1000)).is_reliable


def test_alternating_series_have_a_positive_time():
    assert 0 < autocorrelation_time(np.tile([1.0, -1.0], 50)).estimate < 1


def test_constant_series_are_refused():
    with pytest.raises(ValueError, match=r"must not be constant; got 12 times 3\.0"):
        autocorrelation_time(np.full(12, 3.0))

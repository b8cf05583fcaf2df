"""Studentised (bootstrap-t) interval of a statistic over independent units.

The n units are resampled B times. With the estimate θ* of each resample and its standard error s*,
the quantiles of t* = (θ* − θ̂) / s* replace those of Student's t, and the interval is [θ̂ −
q_{1−a/2} s, θ̂ − q_{a/2} s]. Unlike percentile intervals, it is second-order correct and accounts
for skewness. It needs a standard error of the statistic. With fewer than about eight units, prefer
Student's t or the sign-flip interval.

The p-value is the share of t* at least as extreme as (θ̂ − null) / s.

References
----------
Efron (1982), The Jackknife, the Bootstrap and Other Resampling Plans, ch. 10,
doi:10.1137/1.9781611970319. Hall (1988), Ann. Stat. 16, 927–953, doi:10.1214/aos/1176350933.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.stats.result import Result
from gradscope.stats.sample import check_alternative, check_fraction, finite_sample

AlongLast = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = x.mean(axis=-1)
    return mean


def _error_of_mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    error: NDArray[np.float64] = x.std(axis=-1, ddof=1) / np.sqrt(x.shape[-1])
    return error


def studentised_bootstrap(
    x: ArrayLike,
    null: float = 0.0,
    *,
    statistic: AlongLast = _mean,
    standard_error: AlongLast = _error_of_mean,
    alternative: str = "two-sided",
    confidence: float = 0.95,
    n_resamples: int = 4_999,
    seed: int = 0,
) -> Result:
    """Estimate a statistic with its bootstrap-t interval and test it against ``null``.

    Parameters
    ----------
    x : array_like, shape (n,)
        One number per independent unit, n ≥ 4.
    null : float, default 0
        The statistic under the null hypothesis.
    statistic, standard_error : callable, default the mean and its standard error
        Each maps an array (…, n) to (…): the estimate, and the estimate's standard error.
    alternative : {"two-sided", "greater", "less"}, default "two-sided"
        Direction of the alternative hypothesis.
    confidence : float, default 0.95
        Coverage of the two-sided interval.
    n_resamples, seed : int
        Number of resamples, and the seed for drawing them.

    Returns
    -------
    Result
        The same seed gives the same numbers.

    Raises
    ------
    ValueError
        For fewer than four units, or units that are all equal.

    Examples
    --------
    Shifting the data shifts the interval, and scaling the data scales it.

    >>> x = np.random.default_rng(1).normal(3.0, 1.0, 40)
    >>> one = studentised_bootstrap(x)
    >>> two = studentised_bootstrap(10 * x + 5)
    >>> bool(np.isclose(10 * one.low + 5, two.low) and np.isclose(10 * one.high + 5, two.high))
    True
    """
    sample = finite_sample(x, "x", minimum=4)
    check_alternative(alternative)
    check_fraction(confidence, "confidence")
    estimate, error = float(statistic(sample)), float(standard_error(sample))
    if np.ptp(sample) == 0 or not error > 0:
        raise ValueError(f"the standard error must be positive; got {error}: `x` has no spread")
    draws = np.random.default_rng(seed).integers(0, sample.size, (n_resamples, sample.size))
    t_star = _resampled_t(sample[draws], estimate, statistic, standard_error)
    tail = (1 - confidence) / 2
    low_t, high_t = np.quantile(t_star, [tail, 1 - tail])
    return Result(
        method="studentised bootstrap",
        quantity="mean" if statistic is _mean else "statistic",
        estimate=estimate,
        low=estimate - float(high_t) * error,
        high=estimate - float(low_t) * error,
        confidence=confidence,
        p_value=_p_value(t_star, (estimate - null) / error, alternative),
        alternative=alternative,
        n=sample.size,
    )


def _resampled_t(
    resamples: NDArray[np.float64], estimate: float, statistic: AlongLast, standard_error: AlongLast
) -> NDArray[np.float64]:
    """Return t of each resample, omitting resamples without a standard error."""
    errors = standard_error(resamples)
    # Rounding leaves some resamples of equal values an error above 0.
    has_spread: NDArray[np.bool_] = (errors > 0) & (np.ptp(resamples, axis=-1) > 0)
    return (statistic(resamples)[has_spread] - estimate) / errors[has_spread]


def _p_value(t_star: NDArray[np.float64], t: float, alternative: str) -> float:
    """Tail share of the resampled t, counting the data as one resample."""
    upper = (1 + np.count_nonzero(t_star >= t)) / (1 + t_star.size)
    lower = (1 + np.count_nonzero(t_star <= t)) / (1 + t_star.size)
    sides = {"greater": upper, "less": lower, "two-sided": min(1.0, 2 * min(lower, upper))}
    return float(sides[alternative])

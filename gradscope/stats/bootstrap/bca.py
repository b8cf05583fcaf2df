"""BCa interval: percentile bootstrap with correction for bias and acceleration.

The bias correction z0 = Φ⁻¹(share) follows from the share of resamples below θ̂. The acceleration a
is one sixth of the jackknife skewness. The bounds are the bootstrap quantiles at Φ(z0 + (z0 + z) /
(1 − a (z0 + z))) for z at both tails. The method needs no standard error, so it suits medians,
correlations and ratios. It under-covers for small n, so fewer than 20 units raise an error; for
these, use Student's t, sign flips or the studentised bootstrap.

References
----------
Efron (1987), J. Am. Stat. Assoc. 82, 171–185, doi:10.1080/01621459.1987.10478410. Computed by
``scipy.stats.bootstrap``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradscope.stats.result import Result
from gradscope.stats.sample import check_fraction, finite_sample

MINIMUM = 20


def bca_bootstrap(
    x: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    *,
    confidence: float = 0.95,
    n_resamples: int = 4_999,
    seed: int = 0,
) -> Result:
    """Estimate a statistic over independent units with its BCa interval.

    Parameters
    ----------
    x : array_like, shape (n,)
        One number per independent unit, n ≥ 20, not all equal.
    statistic : callable, default numpy.mean
        Maps an array to its estimate along ``axis``.
    confidence : float, default 0.95
        Coverage of the two-sided interval.
    n_resamples, seed : int
        Number of resamples, and the seed for drawing them.

    Returns
    -------
    Result
        The p-value is nan, because BCa only gives an interval.

    Raises
    ------
    ValueError
        For fewer than 20 units, or units that are all equal.

    Examples
    --------
    >>> x = np.random.default_rng(2).exponential(1.0, 60)
    >>> interval = bca_bootstrap(x, np.median)
    >>> bool(interval.low < np.median(x) < interval.high)
    True
    """
    sample = finite_sample(x, "x", minimum=MINIMUM)
    check_fraction(confidence, "confidence")
    if np.ptp(sample) == 0:
        raise ValueError(f"`x` must have some spread; got {sample.size} times {sample[0]}")
    bootstrap = stats.bootstrap(
        (sample,),
        statistic,
        confidence_level=confidence,
        n_resamples=n_resamples,
        method="BCa",
        random_state=np.random.default_rng(seed),
    )
    return Result(
        method="BCa bootstrap",
        quantity=getattr(statistic, "__name__", "statistic"),
        estimate=float(statistic(sample)),
        low=float(bootstrap.confidence_interval.low),
        high=float(bootstrap.confidence_interval.high),
        confidence=confidence,
        n=sample.size,
    )

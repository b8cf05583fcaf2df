"""Circular block bootstrap of a statistic of one autocorrelated series.

The series is treated as circular and resampled in blocks of b successive values, which preserves
the correlation within b steps. By default b is chosen for the mean by Politis and White's rule, b =
(2 G² / D)^(1/3) n^(1/3), with G = Σ λ(k/M) |k| R(k), D = 4/3 · (Σ λ(k/M) R(k))², R the
autocovariance, λ the flat-top lag window and M twice the lag at which the autocorrelation becomes
negligible.

The interval describes the uncertainty of the average of *one* run. For several runs, use the run as
the unit of observation.

References
----------
Politis & Romano (1992), in Exploring the Limits of Bootstrap, 263–270. Politis & White (2004),
Econom. Rev. 23, 53–70, doi:10.1081/ETC-120028836, with the correction of Patton, Politis & White
(2009), doi:10.1080/07474930802459016.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.stats.result import Result
from gradscope.stats.sample import check_fraction, finite_sample
from gradscope.stats.series_memory import autocorrelation


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockBootstrapResult(Result):
    """Interval and block length."""

    block_length: int


def _mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = x.mean(axis=-1)
    return mean


def block_bootstrap(
    x: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]] = _mean,
    *,
    block_length: int | None = None,
    confidence: float = 0.95,
    n_resamples: int = 1_999,
    seed: int = 0,
) -> BlockBootstrapResult:
    """Estimate a statistic of a stationary series with its basic block-bootstrap interval.

    Parameters
    ----------
    x : array_like, shape (n,)
        Equally spaced values, n ≥ 20. Remove the transient first.
    statistic : callable, default the mean
        Maps an array (…, n) to (…).
    block_length : int, optional
        Block length b, from 1 (independent values) to n. By default, Politis and White's rule.
    confidence : float, default 0.95
        Nominal coverage. The coverage is a few points lower for series shorter than about 50
        autocorrelation times.
    n_resamples, seed : int
        Number of resamples, and the seed for drawing them.

    Returns
    -------
    BlockBootstrapResult
        [2 θ̂ − q_high, 2 θ̂ − q_low] from the quantiles of the resampled statistic.

    Raises
    ------
    ValueError
        For fewer than 20 values, a constant series, or a block length out of range.

    Examples
    --------
    >>> x = np.cumsum(np.random.default_rng(0).normal(size=200)) * 0.1
    >>> wide, narrow = block_bootstrap(x), block_bootstrap(x, block_length=1)
    >>> wide.high - wide.low > 2 * (narrow.high - narrow.low)
    True
    """
    series = finite_sample(x, "x", minimum=20)
    check_fraction(confidence, "confidence")
    length = optimal_block_length(series) if block_length is None else block_length
    if not 1 <= length <= series.size:
        raise ValueError(f"`block_length` must lie from 1 to {series.size}; got {length}")
    estimate = float(statistic(series))
    resampled = statistic(series[_block_indices(series.size, length, n_resamples, seed)])
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return BlockBootstrapResult(
        method="circular block bootstrap",
        quantity="mean" if statistic is _mean else "statistic",
        estimate=estimate,
        low=2 * estimate - float(high),
        high=2 * estimate - float(low),
        confidence=confidence,
        n=series.size,
        block_length=length,
    )


def optimal_block_length(x: ArrayLike) -> int:
    """Choose the block length of the circular bootstrap of a mean (Politis and White).

    Parameters
    ----------
    x : array_like, shape (n,)
        Equally spaced values, n ≥ 20.

    Returns
    -------
    int
        At least 1, at most min(3 √n, n / 3).

    Examples
    --------
    >>> optimal_block_length(np.random.default_rng(0).normal(size=500)) < 10
    True
    """
    series = finite_sample(x, "x", minimum=20)
    n = series.size
    rho = autocorrelation(series)
    # Constants of the rule: the autocorrelation is negligible after K_N successive lags below 2
    # sqrt(log10(n) / n).
    quiet_run = max(5, math.ceil(math.sqrt(math.log10(n))))
    last = math.ceil(math.sqrt(n)) + quiet_run
    loud = np.abs(rho[1 : last + 1]) > 2 * math.sqrt(math.log10(n) / n)
    width = min(max(2 * _first_quiet(loud, quiet_run), 1), n - 1)
    lags = np.arange(1, width + 1)
    window = np.clip(2.0 * (1.0 - lags / width), 0.0, 1.0)
    spectrum = 1.0 + 2.0 * float(np.sum(window * rho[1 : width + 1]))
    bend = 2.0 * float(np.sum(window * lags * rho[1 : width + 1]))
    if spectrum == 0.0:
        return 1
    best: float = (2 * bend**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * n ** (1 / 3)
    return math.ceil(min(max(best, 1.0), 3 * math.sqrt(n), n / 3))


def _first_quiet(loud: NDArray[np.bool_], run: int) -> int:
    """Lag after which ``run`` successive autocorrelations are quiet; else the last loud lag."""
    for lag in range(loud.size - run + 1):
        if not loud[lag : lag + run].any():
            return lag
    return int(np.flatnonzero(loud)[-1]) + 1


def _block_indices(n: int, length: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """Indices (n_resamples, n) of blocks that start anywhere in the circular series."""
    n_blocks = math.ceil(n / length)
    starts = np.random.default_rng(seed).integers(0, n, (n_resamples, n_blocks, 1))
    return ((starts + np.arange(length)) % n).reshape(n_resamples, -1)[:, :n]

"""Integrated autocorrelation time of a series.

τ = 1 + 2 Σ_{k≥1} ρ(k), with ρ the autocorrelation; a mean over n values has the precision of n / τ
independent values. The sum is truncated at the first window W ≥ c · τ(W) (Sokal), a compromise
between the noise of distant lags and the bias of a short window. White noise has τ = 1, an AR(1)
series (1 + φ) / (1 − φ).

References
----------
Sokal (1997), Monte Carlo Methods in Statistical Mechanics, in Functional Integration, section 3,
doi:10.1007/978-1-4899-0319-8_6. Goodman & Weare (2010), doi:10.2140/camcos.2010.5.65.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from gradscope.stats.result import Result
from gradscope.stats.sample import finite_sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutocorrelationResult(Result):
    """Autocorrelation time, the lag at which its sum was truncated, and the effective sample size.

    ``is_reliable`` is False for series shorter than 50 autocorrelation times. The time is then
    underestimated, and only a longer series helps.
    """

    window: int
    effective_n: float
    is_reliable: bool


def autocorrelation(x: ArrayLike, max_lag: int | None = None) -> NDArray[np.float64]:
    """Return ρ(0 … max_lag) of a series, with the usual bias of (n − k) / n toward 0.

    Parameters
    ----------
    x : array_like, shape (n,)
        Values at equal spacing.
    max_lag : int, optional
        Last lag, below n; n − 1 by default.

    Returns
    -------
    ndarray, shape (max_lag + 1,)

    Raises
    ------
    ValueError
        If the series is constant.

    Examples
    --------
    x̃ = (−1, 1, −1, 1): Σ x̃² = 4, and lag 1 has −3 / 4.

    >>> autocorrelation([0, 2, 0, 2], max_lag=2).round(12).tolist()
    [1.0, -0.75, 0.5]
    """
    series = finite_sample(x, "x")
    centred = series - series.mean()
    if np.ptp(series) == 0:
        raise ValueError(f"`x` must not be constant; got {series.size} times {series[0]}")
    length = fft.next_fast_len(2 * series.size, real=True)
    power = np.square(np.abs(fft.rfft(centred, length)))
    covariance = fft.irfft(power, length)[: series.size]
    last = series.size - 1 if max_lag is None else max_lag
    correlation: NDArray[np.float64] = covariance / covariance[0]
    return correlation[: last + 1]


def autocorrelation_time(x: ArrayLike, window_factor: float = 5.0) -> AutocorrelationResult:
    """Estimate the integrated autocorrelation time of a stationary series.

    Parameters
    ----------
    x : array_like, shape (n,)
        Equally spaced values, n ≥ 10. Remove the transient first.
    window_factor : float, default 5
        Factor c of the window W ≥ c · τ(W).

    Returns
    -------
    AutocorrelationResult
        τ in steps, at least 1 / n, and n / τ as ``effective_n``.

    Raises
    ------
    ValueError
        For fewer than ten values, or a constant series.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=20_000)
    >>> 0.9 < autocorrelation_time(noise).estimate < 1.1
    True
    """
    series = finite_sample(x, "x", minimum=10)
    rho = autocorrelation(series)
    times = 2.0 * np.cumsum(rho) - 1.0
    enough = np.arange(rho.size) >= window_factor * times
    window = int(np.argmax(enough)) if enough.any() else rho.size - 1
    # By noise, the sum of an alternating series can fall below zero. This bounds effective_n by n².
    time = max(float(times[window]), 1.0 / series.size)
    return AutocorrelationResult(
        method="integrated autocorrelation time (Sokal's window)",
        quantity="autocorrelation time",
        estimate=time,
        n=series.size,
        window=window,
        effective_n=series.size / time,
        is_reliable=series.size >= 50 * time,
    )

"""Student's t interval and test of a mean.

Null hypothesis: the units' mean is ``null``. With mean x̄ and standard deviation s of n units,
t = (x̄ − null) / (s / √n) follows Student's distribution with n − 1 degrees of freedom, exactly for
normal units and approximately for symmetric ones. For paired arms, pass the differences.

References
----------
Student (1908), Biometrika 6(1), 1–25, doi:10.1093/biomet/6.1.1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gradscope.stats.result import Result
from gradscope.stats.sample import check_alternative, check_fraction, finite_sample


def student_t_mean(
    x: ArrayLike,
    null: float = 0.0,
    *,
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> Result:
    """Estimate a mean with its t interval and test it against ``null``.

    Parameters
    ----------
    x : array_like, shape (n,)
        One number per independent unit, n ≥ 2.
    null : float, default 0
        Mean under the null hypothesis.
    alternative : {"two-sided", "greater", "less"}, default "two-sided"
        Direction of the alternative hypothesis.
    confidence : float, default 0.95
        Coverage of the two-sided interval.

    Returns
    -------
    Result
        The interval is two-sided for every alternative.

    Raises
    ------
    ValueError
        For fewer than two values, values that are not finite, or unknown options.

    Notes
    -----
    If all units are equal, p is 0, or 1 if the mean equals ``null``. Check the data in this case.

    Examples
    --------
    Mean 3 and s = √2.5, so the standard error is √(2.5 / 5) = 0.7071 and t = 4.243; the 97.5 %
    point of t with 4 degrees of freedom is 2.776, so the interval is 3 ± 1.963.

    >>> print(student_t_mean([1, 2, 3, 4, 5]))
    Student's t of a mean
      effect      mean = 3
      interval    95 %: [1.037, 4.963]
      p           0.0132 (two-sided)
      n           5
    """
    sample = finite_sample(x, "x")
    check_alternative(alternative)
    check_fraction(confidence, "confidence")
    n, (mean, error) = sample.size, mean_and_error(sample)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    return Result(
        method="Student's t of a mean",
        quantity="mean",
        estimate=mean,
        low=mean - half,
        high=mean + half,
        confidence=confidence,
        p_value=t_p_value(mean - null, error, n - 1, alternative=alternative),
        alternative=alternative,
        n=n,
    )


def student_t_bounds(
    sample: NDArray[np.float64], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the bounds of `student_t_mean` where they say how sure a mean over runs is.

    They are nan of one value, and of values that are equal but for rounding, as ranks or the best
    of a few cases are: that runs vary by less than a place does not show that they do not vary.

    Examples
    --------
    >>> student_t_bounds(np.array([0.1, 0.1]))
    (nan, nan)
    """
    if sample.size < 2 or np.allclose(sample, sample[0], rtol=1e-12, atol=0.0):
        return math.nan, math.nan
    result = student_t_mean(sample, confidence=confidence)
    return result.low, result.high


def mean_and_error(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and its standard error, which is 0 if all values are equal.

    >>> mean_and_error(np.array([0.1, 0.1, 0.1]))
    (0.1, 0.0)
    """
    if np.ptp(sample) == 0:  # the mean of equal values is off by rounding, and so is their spread
        return float(sample[0]), 0.0
    return float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(sample.size)


def t_p_value(distance: float, error: float, dof: float, *, alternative: str) -> float:
    """Return the p-value of t = distance / error; if the error is 0, the limit 0 or 1.

    >>> round(t_p_value(2.0, 1.0, 10, alternative="greater"), 4)
    0.0367
    """
    if error == 0.0:
        t = float(np.sign(distance)) * math.inf if distance else 0.0
        if t == 0.0:
            return 1.0
    else:
        t = distance / error
    if alternative == "two-sided":
        return min(1.0, 2.0 * float(stats.t.sf(abs(t), dof)))
    return float(stats.t.sf(t if alternative == "greater" else -t, dof))

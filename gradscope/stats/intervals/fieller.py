"""Fieller's confidence set for the ratio of two means.

Null hypothesis: mean(y) = r · mean(x). For every r the difference d = ȳ − r x̄ has variance
v(r) = s_yy − 2 r s_xy + r² s_xx, and the set is {r : d² ≤ t² v(r)}. If x̄ is clearly different from
zero, the set is an interval. Otherwise it is the complement of an interval, or all numbers, because
the data do not bound a ratio whose denominator may be zero.

References
----------
Fieller (1954), J. R. Stat. Soc. B 16, 175–185, doi:10.1111/j.2517-6161.1954.tb00159.x. Franz
(2007), Ratios: a short guide to confidence limits and proper use, arXiv:0710.2024.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradscope.stats.intervals.student_t import t_p_value
from gradscope.stats.result import Result
from gradscope.stats.sample import check_fraction, paired


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiellerResult(Result):
    """Ratio of means and the form of its confidence set.

    ``set_form`` is ``"interval"`` (from low to high), ``"outside"`` (everything *except* the open
    range from low to high) or ``"everything"``.
    """

    set_form: str


def fieller_ratio(
    y: ArrayLike, x: ArrayLike, *, null: float = 1.0, confidence: float = 0.95
) -> FiellerResult:
    """Estimate mean(y) / mean(x) over paired units with Fieller's set.

    Parameters
    ----------
    y, x : array_like, shape (n,)
        Numerator and denominator of each unit, n ≥ 2.
    null : float, default 1
        Ratio under the null hypothesis. The p-value is that of a t test of y − null · x.
    confidence : float, default 0.95
        Coverage of the set.

    Returns
    -------
    FiellerResult
        Check ``set_form`` before using ``low`` and ``high``.

    Raises
    ------
    ValueError
        For unequal lengths, fewer than two units, or a mean of x that is exactly zero.

    Examples
    --------
    With the constant denominator 2, the set is half the t interval mean(y) = 3 ± 1.963.

    >>> ratio = fieller_ratio([1, 2, 3, 4, 5], [2, 2, 2, 2, 2])
    >>> ratio.set_form, round(ratio.low, 4), round(ratio.high, 4)
    ('interval', 0.5184, 2.4816)
    """
    above, below = paired(y, x, ("y", "x"), minimum=2)
    check_fraction(confidence, "confidence")
    n, mean_y, mean_x = above.size, float(above.mean()), float(below.mean())
    if mean_x == 0.0:
        raise ValueError("`x` must not have mean 0: the ratio is undefined")
    (s_yy, s_xy), (_, s_xx) = (np.cov(above, below, ddof=1) / n).tolist()
    squared_t = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) ** 2
    low, high, form = _solve(
        mean_x**2 - squared_t * s_xx,
        mean_x * mean_y - squared_t * s_xy,
        mean_y**2 - squared_t * s_yy,
    )
    error = math.sqrt(max(s_yy - 2 * null * s_xy + null**2 * s_xx, 0.0))
    return FiellerResult(
        method="Fieller's ratio of means",
        quantity="mean(y) / mean(x)",
        estimate=mean_y / mean_x,
        low=low,
        high=high,
        confidence=confidence,
        p_value=t_p_value(mean_y - null * mean_x, error, n - 1, alternative="two-sided"),
        alternative="two-sided",
        n=n,
        set_form=form,
    )


def _solve(a: float, b: float, c: float) -> tuple[float, float, str]:
    """Set where a r² − 2 b r + c ≤ 0: within its roots, outside them, or everywhere."""
    discriminant = b * b - a * c
    if a > 0:  # the estimate lies within the set, so the roots are real up to rounding
        root = math.sqrt(max(discriminant, 0.0))
        return (b - root) / a, (b + root) / a, "interval"
    if a == 0.0 or discriminant <= 0:
        return -math.inf, math.inf, "everything"
    root = math.sqrt(discriminant)
    return (b + root) / a, (b - root) / a, "outside"

"""Theil–Sen slope: the median of the slopes of all pairs of points.

Null hypothesis: y and x are independent (Kendall's tau is zero). The slope is
median{(y_j − y_i) / (x_j − x_i) : x_i < x_j}; the bounds of Sen's interval are pair slopes whose
ranks follow from the quantiles of Kendall's statistic. The slope tolerates up to 29 % outliers,
whereas a single outlier can change a least-squares slope arbitrarily.

References
----------
Theil (1950), Proc. Kon. Ned. Akad. Wet. A 53, 386–392. Sen (1968), J. Am. Stat. Assoc. 63,
1379–1389, doi:10.1080/01621459.1968.10480934. Computed by ``scipy.stats.theilslopes`` and
``scipy.stats.kendalltau``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradscope.stats.sample import check_fraction, paired
from gradscope.stats.slopes.ols import SlopeResult


def theil_sen_slope(y: ArrayLike, x: ArrayLike, *, confidence: float = 0.95) -> SlopeResult:
    """Fit y = intercept + slope · x by the median of pair slopes.

    Parameters
    ----------
    y, x : array_like, shape (n,)
        Values and their positions; n ≥ 3, and x not constant.
    confidence : float, default 0.95
        Coverage of Sen's interval of the slope.

    Returns
    -------
    SlopeResult
        Slope in units of y per unit of x; intercept = median(y) − slope · median(x); two-sided
        p-value of Kendall's tau.

    Raises
    ------
    ValueError
        For unequal lengths, fewer than three points, or a constant x.

    Notes
    -----
    As for least squares, p-value and interval assume independent points. For layers or steps, use
    only the slope, one per run.

    Examples
    --------
    The six pair slopes of (0, 0), (1, 1), (2, 2), (3, 30) are 1, 1, 1, 10, 14.5 and 28: their
    median is 5.5. The least-squares slope is 9.1.

    >>> round(theil_sen_slope([0, 1, 2, 30], [0, 1, 2, 3]).estimate, 3)
    5.5
    """
    values, places = paired(y, x, ("y", "x"), minimum=3)
    check_fraction(confidence, "confidence")
    if np.ptp(places) == 0:
        raise ValueError("`x` must not be constant: a slope needs at least two places")
    fit = stats.theilslopes(values, places, alpha=confidence)
    # Kendall's tau of a constant y is undefined. No pair contradicts independence, so p = 1.
    p_value = float(stats.kendalltau(places, values).pvalue) if np.ptp(values) else 1.0
    return SlopeResult(
        method="Theil–Sen slope",
        quantity="slope",
        estimate=float(fit.slope),
        low=float(fit.low_slope),
        high=float(fit.high_slope),
        confidence=confidence,
        p_value=p_value,
        alternative="two-sided",
        n=values.size,
        intercept=float(fit.intercept),
    )

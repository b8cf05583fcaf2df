"""Page's trend test for a predicted order of k conditions within m independent rows.

Null hypothesis: within each row, every order of the k conditions is equally likely. Alternative:
their medians increase from first to last, at least once strictly. With the rank sum R_j of
condition j over within-row ranks, L = Σ_j j · R_j. The effect reported is the mean over rows of
Spearman's correlation between rank and predicted position, 12 L / (m k (k² − 1)) − 3 (k + 1) / (k −
1).

References
----------
Page (1963), J. Am. Stat. Assoc. 58, 216–230, doi:10.1080/01621459.1963.10500843. Computed by
``scipy.stats.page_trend_test``.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradscope.stats.result import Result
from gradscope.stats.sample import finite_sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageResult(Result):
    """Mean rank correlation, and Page's L."""

    statistic: float


def page_trend(data: ArrayLike, predicted: ArrayLike | None = None) -> PageResult:
    """Test whether the columns increase in the predicted order.

    Parameters
    ----------
    data : array_like, shape (m, k)
        One row per independent unit (run), one column per condition; m ≥ 2, k ≥ 3.
    predicted : array_like, shape (k,), optional
        Predicted rank of each column, from 1. By default the columns are predicted to increase; use
        ``[k, …, 1]`` to predict a decrease.

    Returns
    -------
    PageResult
        The effect is 1 if every row follows the prediction and −1 if every row reverses it. The
        p-value is one-sided. It is exact without ties, and otherwise comes from the normal
        approximation, which is conservative under ties.

    Raises
    ------
    ValueError
        For fewer than two rows or three columns, or a prediction that is not a ranking.

    Examples
    --------
    The ranks of the rows are (1, 2, 3) and (2, 1, 3), so R = (3, 3, 6) and L = 3 + 6 + 18 = 27. A
    row contributes 14 (one order), 13 (two), 11 (two) or 10 (one). Of the 36 pairs of orders, one
    reaches 28 and four reach 27, so p = 5/36.

    >>> print(page_trend([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0]]))
    Page's trend test
      effect      mean rank correlation = 0.75
      p           0.139 (greater)
      n           2
      statistic   27
    """
    rows = finite_sample(data, "data", ndim=2)
    m, k = rows.shape
    if k < 3:
        raise ValueError(f"`data` needs at least 3 columns to have a trend; got {k}")
    ranks = np.arange(1, k + 1) if predicted is None else np.asarray(predicted)
    if not np.array_equal(np.sort(ranks), np.arange(1, k + 1)):
        raise ValueError(f"`predicted` must hold each rank from 1 to {k} once; got {ranks}")
    has_ties = any(np.unique(row).size < k for row in rows)
    method = "asymptotic" if has_ties else "auto"
    test = stats.page_trend_test(rows, predicted_ranks=ranks, method=method)
    correlation = 12 * float(test.statistic) / (m * k * (k**2 - 1)) - 3 * (k + 1) / (k - 1)
    return PageResult(
        method="Page's trend test",
        quantity="mean rank correlation",
        estimate=correlation,
        p_value=float(test.pvalue),
        alternative="greater",
        n=m,
        statistic=float(test.statistic),
    )

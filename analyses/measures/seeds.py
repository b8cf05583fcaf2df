"""From rows by run to one number a seed: the unit of every test is the run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analyses.study.question import Explored
from gradscope.stats.intervals.student_t import student_t_bounds
from gradscope.stats.slopes.ols import ols_slopes
from gradscope.stats.tests.sign_flip import sign_flip


def wide(table: pd.DataFrame, columns: str | list[str], values: str) -> pd.DataFrame:
    """Return one row a seed and one column a case, of the seeds that have every case.

    Examples
    --------
    >>> rows = pd.DataFrame({"seed": [0, 0, 1], "alpha": [0.0, 0.1, 0.0], "y": [1.0, 2.0, 3.0]})
    >>> wide(rows, "alpha", "y").to_numpy().tolist()
    [[1.0, 2.0]]
    """
    # By the cases that there are, not their product: alpha = 0 has no arm with coupled decay.
    labels = [columns] if isinstance(columns, str) else columns
    return table.groupby(["seed", *labels])[values].mean().unstack(columns).dropna()


def best_column(table: pd.DataFrame) -> pd.Series:
    """Return, for each seed, the number that names the column with the highest value.

    Of columns with the same value it is the mean, so that their order does not matter.

    Examples
    --------
    >>> best_column(pd.DataFrame([[0.1, 0.7, 0.7]], columns=[-0.1, 0.0, 0.1])).tolist()
    [0.05]
    """
    is_best = table.eq(table.max(axis=1), axis=0)
    return is_best.mul(table.columns.to_numpy(dtype=float)).sum(axis=1) / is_best.sum(axis=1)


def slopes_over_columns(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return each seed's least-squares slope over the numbers that the columns are named by."""
    return ols_slopes(table.to_numpy(dtype=float), table.columns.to_numpy(dtype=float))


def explore(
    key: str, statement: str, values: ArrayLike, unit: str, note: str = "", *, null: float = 0.0
) -> Explored | None:
    """Test one number a seed against ``null``: t interval, exact sign-flip p.

    Returns
    -------
    Explored or None
        A single seed has neither interval nor p, and seeds of one value have no interval; None
        where there is no seed.
    """
    sample = np.asarray(values, dtype=float)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return None
    low, high = student_t_bounds(sample)
    return Explored(
        key=key,
        statement=statement,
        estimate=float(sample.mean()),
        low=low,
        high=high,
        p=sign_flip(sample, null).p_value if sample.size > 1 else float("nan"),
        n=sample.size,
        unit=unit,
        note=note,
    )

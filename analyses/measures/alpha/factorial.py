"""Two-level factorial designs: the effect of each factor while all others vary.

Half of the 2^5 combinations are run, those with A B C D E = +1. Then every main effect is
confounded only with an interaction of four factors, and interactions of two only with those of
three (resolution V): main effects are clean wherever interactions of three and more are small.

References
----------
Box, Hunter & Hunter (2005), Statistics for Experimenters, 2nd ed., ch. 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gradscope.errors import UsageError


def is_half_fraction(signs: np.ndarray) -> bool:
    """Whether rows of ±1 are the half of a full factorial with product +1, each once.

    Examples
    --------
    >>> is_half_fraction(np.array([[1, 1], [-1, -1]]))
    True
    """
    n_factors = signs.shape[1]
    rows = {tuple(row) for row in signs.tolist()}
    is_whole = len(rows) == len(signs) == 2 ** (n_factors - 1)
    return bool(is_whole and (signs.prod(axis=1) == 1).all())


def main_effects(
    runs: pd.DataFrame, levels: Mapping[str, Sequence[float]], outcome: str
) -> pd.DataFrame:
    """Return the main effect of each factor, one row a seed.

    Parameters
    ----------
    runs : DataFrame
        ``seed``, one column a factor and the outcome; one row a run.
    levels : mapping of str to (low, high)
        The two levels of each factor.
    outcome : str
        Column with the outcome. A seed that lacks a combination, or its outcome, is left out.

    Returns
    -------
    DataFrame
        One column a factor: mean outcome at the high level minus that at the low level.

    Raises
    ------
    UsageError
        If a factor has another level than the two.
    """
    effects = {}
    for seed, own in runs.dropna(subset=[outcome]).groupby("seed"):
        signs = np.stack([_signs(own[name], levels[name]) for name in levels], axis=1)
        if is_half_fraction(signs):
            outcomes = own[outcome].to_numpy(dtype=float)
            effects[seed] = 2 * (signs * outcomes[:, None]).mean(axis=0)
    return pd.DataFrame.from_dict(effects, orient="index", columns=list(levels))


def _signs(values: pd.Series, levels: Sequence[float]) -> np.ndarray:
    low, high = levels
    numbers = values.to_numpy(dtype=float)
    if not np.isin(numbers, (low, high)).all():
        raise UsageError(f"`{values.name}` must be {low} or {high}; got {sorted(set(numbers))}")
    return np.where(numbers == high, 1, -1)

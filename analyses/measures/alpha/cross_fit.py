"""Cross-fitted gain of the best of several arms, chosen by the other seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def cross_fitted_gain(
    accuracy: pd.DataFrame, low: float = -0.3, high: float = 0.1
) -> NDArray[np.float64]:
    """Return per seed the accuracy of the best alpha within a range less that of the best beyond.

    Which alpha is best is decided by the other seeds, so that luck does not count twice.

    Parameters
    ----------
    accuracy : DataFrame
        One row a seed, one column an alpha.
    low, high : float
        The range that the paper names.
    """
    within = accuracy.loc[:, (accuracy.columns >= low) & (accuracy.columns <= high)]
    beyond = accuracy.loc[:, accuracy.columns > high]
    if len(accuracy) < 2 or not within.size or not beyond.size:
        return np.empty(0)
    return np.array([_pick(within, seed) - _pick(beyond, seed) for seed in accuracy.index])


def _pick(accuracy: pd.DataFrame, seed: int) -> float:
    """Accuracy of a seed at the alpha that is best of the others; the mean of those that tie."""
    others = accuracy.drop(index=seed).mean()
    return float(accuracy.loc[seed, others == others.max()].mean())


def gain_over(accuracy: pd.DataFrame, reference: float) -> NDArray[np.float64]:
    """Return per seed the accuracy of the best other alpha less that of a reference.

    Which alpha is best is decided by the other seeds.

    Parameters
    ----------
    accuracy : DataFrame
        One row a seed, at least two; one column an alpha.
    reference : float
        The alpha that the others are compared with.

    Examples
    --------
    >>> table = pd.DataFrame({0.0: [0.5, 0.5], 0.1: [0.6, 0.4], 0.2: [0.4, 0.7]})
    >>> gain_over(table, 0.0).round(6).tolist()
    [-0.1, -0.1]
    """
    others = accuracy.drop(columns=reference)
    gains = [_pick(others, seed) - accuracy.loc[seed, reference] for seed in accuracy.index]
    return np.array(gains, dtype=float)

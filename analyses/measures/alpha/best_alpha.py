"""Best alpha: the vertex of a parabola through accuracy over alpha, if it is identified.

"Not identified" is an answer: if more than 5 % of fits to resampled seeds are not concave, or the
interval of the vertex touches an end of the range, the data do not say where the best alpha lies.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.errors import UsageError

MAX_NON_CONCAVE = 0.05
"""Largest share of fits that may be not concave."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BestAlpha:
    """Vertex of one curve.

    Parameters
    ----------
    alpha : float
        Vertex of the parabola through the mean over seeds, clipped to the range; at the better end
        where the parabola is not concave.
    low, high : float
        95 % percentile interval over resampled seeds; nan of a single seed.
    of_seeds : ndarray, shape (n_seeds,)
        Vertex of each seed's own parabola, clipped likewise: what is compared between data sets.
    non_concave : float
        Share of resampled fits that are not concave.
    is_identified : bool
        Whether at most 5 % of fits are not concave and there is an interval, off the range's ends.
    """

    alpha: float
    low: float
    high: float
    of_seeds: NDArray[np.float64]
    non_concave: float
    is_identified: bool


def best_alpha(
    accuracy: ArrayLike, alphas: ArrayLike, *, n_resamples: int = 2000, seed: int = 0
) -> BestAlpha:
    """Fit a parabola to accuracy over alpha and find its vertex.

    Parameters
    ----------
    accuracy : array_like, shape (n_seeds, n_alphas)
        Of the tuned arm, the same seeds at each alpha.
    alphas : array_like, shape (n_alphas,)
        At least four, else the fit has nothing to show that it does not fit.
    n_resamples, seed : int
        Of the bootstrap over seeds.

    Returns
    -------
    BestAlpha

    Raises
    ------
    UsageError
        For fewer than four alphas.

    Examples
    --------
    >>> alphas = np.array([-0.3, -0.1, 0.1, 0.3, 0.5])
    >>> curves = 0.9 - (alphas - 0.1) ** 2 + np.zeros((3, 1))
    >>> top = best_alpha(curves, alphas)
    >>> round(top.alpha, 6), top.is_identified
    (0.1, True)
    """
    places, curves = np.asarray(alphas, float), np.asarray(accuracy, float)
    if places.size < 4:
        raise UsageError(f"the best alpha needs four alphas or more; got {places.size}")
    draws = np.random.default_rng(seed).integers(len(curves), size=(n_resamples, len(curves)))
    vertices, is_non_concave = _vertices(curves[draws].mean(axis=1), places)
    has_spread = len(curves) > 1  # every resample of one seed is that seed
    low, high = np.quantile(vertices, [0.025, 0.975]).tolist() if has_spread else (np.nan, np.nan)
    non_concave = float(is_non_concave.mean())
    is_inside = low > places.min() and high < places.max()
    return BestAlpha(
        alpha=float(_vertices(curves.mean(axis=0, keepdims=True), places)[0][0]),
        low=low,
        high=high,
        of_seeds=_vertices(curves, places)[0],
        non_concave=non_concave,
        is_identified=bool(is_inside and non_concave <= MAX_NON_CONCAVE),
    )


def _vertices(
    curves: NDArray[np.float64], alphas: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Vertex of the parabola through each row, clipped, and whether it is no maximum."""
    quadratic, linear, _ = np.polyfit(alphas, curves.T, 2)
    # A straight or flat row has a quadratic term of rounding size: no maximum either.
    is_non_concave = quadratic >= -1e-9
    vertex = -linear / (2 * np.where(is_non_concave, -1.0, quadratic))
    better_end = np.where(
        linear + quadratic * (alphas.min() + alphas.max()) > 0, alphas.max(), alphas.min()
    )
    return np.clip(
        np.where(is_non_concave, better_end, vertex), alphas.min(), alphas.max()
    ), is_non_concave


def is_monotonic(values: ArrayLike) -> bool:
    """Whether values only rise or only fall; equal neighbours count as both.

    >>> is_monotonic([1, 2, 2]), is_monotonic([1, 3, 2])
    (True, False)
    """
    steps = np.diff(np.asarray(values, dtype=float))
    return bool((steps >= 0).all() or (steps <= 0).all())

"""Least-squares slope of y on x.

Null hypothesis: the slope is zero. With x̃ = x − x̄ the slope is b = Σ x̃ y / Σ x̃², its standard
error √(Σ r² / (n − 2) / Σ x̃²) from the residuals r, and b over its error follows Student's t with
n − 2 degrees of freedom for independent normal residuals.

Successive layers or steps are *not* independent. Take one slope per run and test the slopes over
runs (:func:`gradscope.stats.tests.sign_flip.sign_flip`). The p-value here is valid only for
independent points.

References
----------
Draper & Smith (1998), Applied Regression Analysis, 3rd ed., ch. 1, doi:10.1002/9781118625590.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gradscope.stats.intervals.student_t import t_p_value
from gradscope.stats.result import Result
from gradscope.stats.sample import check_fraction, paired


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlopeResult(Result):
    """Slope, and intercept of the line at x = 0."""

    intercept: float


def ols_slope(y: ArrayLike, x: ArrayLike, *, confidence: float = 0.95) -> SlopeResult:
    """Fit y = intercept + slope · x by least squares.

    Parameters
    ----------
    y, x : array_like, shape (n,)
        Values and their positions; n ≥ 3, and x not constant.
    confidence : float, default 0.95
        Coverage of the t interval of the slope.

    Returns
    -------
    SlopeResult
        Slope in units of y per unit of x.

    Raises
    ------
    ValueError
        For unequal lengths, fewer than three points, or a constant x.

    Examples
    --------
    x̃ = (−1, 0, 1), so the slope is (4 − 1) / 2 = 1.5; the residuals (−1/6, 1/3, −1/6) square to
    1/6, the standard error is √(1/6 / 1 / 2) = 0.2887, and t(1) has 12.706 at 97.5 %.

    >>> print(ols_slope([1, 3, 4], [0, 1, 2]))
    least-squares slope
      effect      slope = 1.5
      interval    95 %: [-2.168, 5.168]
      p           0.121 (two-sided)
      n           3
      intercept   1.167
    """
    values, places = paired(y, x, ("y", "x"), minimum=3)
    check_fraction(confidence, "confidence")
    if np.ptp(places) == 0:
        raise ValueError("`x` must not be constant: a slope needs at least two places")
    dof = values.size - 2
    slope, intercept = _line(values, places)
    residuals = values - intercept - slope * places
    spread = float(np.square(places - places.mean()).sum())
    error = math.sqrt(float(np.square(residuals).sum()) / dof / spread)
    half = float(stats.t.ppf(0.5 + confidence / 2, dof)) * error
    return SlopeResult(
        method="least-squares slope",
        quantity="slope",
        estimate=slope,
        low=slope - half,
        high=slope + half,
        confidence=confidence,
        p_value=t_p_value(slope, error, dof, alternative="two-sided"),
        alternative="two-sided",
        n=values.size,
        intercept=intercept,
    )


def _line(y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and intercept; unlike linregress, exact for a constant y."""
    slope = float(ols_slopes(y - y.mean(), x))
    return slope, float(y.mean()) - slope * float(x.mean())


def ols_slopes(y: ArrayLike, x: ArrayLike, *, axis: int = -1) -> NDArray[np.float64]:
    """Return the least-squares slope along one axis of an array, without its error.

    Parameters
    ----------
    y : array_like
        Values; points that are nan are omitted from their line.
    x : array_like, shape (y.shape[axis],)
        Positions of the values along the axis.
    axis : int, default -1
        Axis of the positions; the result does not have it.

    Returns
    -------
    ndarray
        Slopes; nan where fewer than two different x remain.

    Raises
    ------
    ValueError
        If x is not as long as the axis.

    Examples
    --------
    >>> ols_slopes([[0.0, 1.0, 2.0], [5.0, float("nan"), 1.0]], [0, 1, 2])
    array([ 1., -2.])
    """
    values = np.moveaxis(np.asarray(y, dtype=np.float64), axis, -1)
    places = np.asarray(x, dtype=np.float64)
    if places.shape != values.shape[-1:]:
        raise ValueError(
            f"`x` must have one place for each of the {values.shape[-1]} values along the axis; "
            f"got shape {places.shape}"
        )
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    centred_x = np.where(known, places, 0.0)
    centred_x = np.where(known, places - centred_x.sum(axis=-1, keepdims=True) / count, 0.0)
    spread = np.square(centred_x).sum(axis=-1)
    joint = (centred_x * np.where(known, values, 0.0)).sum(axis=-1)
    # Rounding leaves a single position with a spread of about eps², which does not define a line.
    scale = np.square(np.where(known, places, 0.0)).sum(axis=-1)
    is_line = spread > 1e-20 * scale
    slope: NDArray[np.float64] = np.divide(
        joint, spread, out=np.full(joint.shape, np.nan), where=is_line
    )
    return slope

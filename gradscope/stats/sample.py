"""Validation of samples, levels and alternatives, shared by all estimators."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.errors import unknown

ALTERNATIVES = ("two-sided", "greater", "less")


def finite_sample(
    values: ArrayLike, name: str, *, minimum: int = 2, ndim: int | None = 1
) -> NDArray[np.float64]:
    """Return the values as a float64 array if they are a valid sample.

    Parameters
    ----------
    values : array_like
        The data. The first axis is the axis of independent units.
    name : str
        Name of the argument, for error messages.
    minimum : int, default 2
        Smallest number of units that the estimator accepts.
    ndim : int or None, default 1
        Number of dimensions; None for one or more.

    Raises
    ------
    ValueError
        For a wrong number of dimensions, too few units, nan or infinity.

    Examples
    --------
    >>> finite_sample([1, 2, 3], "x")
    array([1., 2., 3.])
    """
    array = np.asarray(values, dtype=np.float64)
    if (ndim is None and array.ndim == 0) or (ndim is not None and array.ndim != ndim):
        wanted = "at least 1" if ndim is None else ndim
        raise ValueError(f"`{name}` must have {wanted} dimension(s); got shape {array.shape}")
    if array.shape[0] < minimum:
        raise ValueError(f"`{name}` needs at least {minimum} values; got {array.shape[0]}")
    n_bad = int(np.count_nonzero(~np.isfinite(array)))
    if n_bad:
        raise ValueError(
            f"`{name}` must be finite; got {n_bad} nan or infinite of {array.size} values. "
            "Drop them, or give a diverged run its declared outcome"
        )
    return array


def paired(
    x: ArrayLike, y: ArrayLike, names: tuple[str, str], *, minimum: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two valid samples of equal length."""
    first = finite_sample(x, names[0], minimum=minimum)
    second = finite_sample(y, names[1], minimum=minimum)
    if first.shape != second.shape:
        raise ValueError(
            f"`{names[0]}` and `{names[1]}` must be as long as each other; "
            f"got {first.size} and {second.size}"
        )
    return first, second


def check_fraction(value: float, name: str) -> float:
    """Return a level or a confidence if it is strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"`{name}` must lie between 0 and 1; got {value}")
    return float(value)


def check_alternative(alternative: str) -> str:
    """Return the alternative if it is a known one."""
    if alternative not in ALTERNATIVES:
        raise ValueError(unknown("alternative", alternative, ALTERNATIVES))
    return alternative

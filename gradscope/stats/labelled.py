"""Estimators on labelled arrays, which keep dimensions and coordinates.

`estimate` applies any estimator that returns a :class:`~gradscope.stats.result.Result`. `slope` and
`max_t` are vectorised. Units with missing values (nan) are omitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gradscope.errors import unknown
from gradscope.stats.result import Result
from gradscope.stats.slopes.ols import ols_slopes
from gradscope.stats.tests import max_t as maps

_FIELDS = ("estimate", "low", "high", "p_value", "n")


def estimate(
    estimator: Callable[..., Result],
    *arrays: xr.DataArray,
    dim: str,
    minimum: int = 3,
    **options: Any,
) -> xr.Dataset:
    """Apply an estimator along one dimension, once for each cell of the other dimensions.

    Parameters
    ----------
    estimator : callable
        An estimator of `gradscope.stats` that takes one or two 1-D samples, such as ``sign_flip``.
    *arrays : DataArray
        Samples with the dimension ``dim``. Their other dimensions are broadcast.
    dim : str
        Dimension of the independent units (or of the points of a line).
    minimum : int, default 3
        Cells with fewer units that are known in every array are nan.
    **options
        Passed to the estimator.

    Returns
    -------
    Dataset
        ``estimate``, ``low``, ``high``, ``p_value`` and ``n`` (units known), without ``dim``.

    Raises
    ------
    ValueError
        If an array lacks the dimension.

    Notes
    -----
    The result has one p-value per cell. With many cells, use :func:`max_t` or correct for
    multiplicity.

    Examples
    --------
    >>> from gradscope.stats.tests.sign_flip import sign_flip
    >>> data = xr.DataArray([[1.0, 2, 3], [-1, 0, 1]], dims=("layer", "seed"))
    >>> estimate(sign_flip, data, dim="seed").p_value.values.tolist()
    [0.25, 1.0]
    """
    for array in arrays:
        _check_dim(array, dim)

    def row(*samples: NDArray[np.float64]) -> tuple[float, ...]:
        known = np.logical_and.reduce([np.isfinite(s) for s in samples])
        count = int(known.sum())
        if count < minimum:
            return math.nan, math.nan, math.nan, math.nan, count
        result = estimator(*(s[known] for s in samples), **options)
        return result.estimate, result.low, result.high, result.p_value, count

    columns = xr.apply_ufunc(
        row,
        *arrays,
        input_core_dims=[[dim]] * len(arrays),
        output_core_dims=[[]] * len(_FIELDS),
        output_dtypes=[np.float64] * len(_FIELDS),
        vectorize=True,
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    return xr.Dataset(
        dict(zip(_FIELDS, columns, strict=True)),
        attrs={"estimator": getattr(estimator, "__name__", "estimator"), "over": dim},
    )


def slope(data: xr.DataArray, coordinate: str) -> xr.DataArray:
    """Return the least-squares slope of the data along a coordinate.

    Parameters
    ----------
    data : DataArray
        Values; nan marks a missing point.
    coordinate : str
        A 1-D numeric coordinate, such as ``depth`` on the dimension ``layer``.

    Returns
    -------
    DataArray
        Slope per unit of the coordinate, without the coordinate's dimension.

    Raises
    ------
    ValueError
        For an unknown coordinate, or one with more than one dimension.

    Examples
    --------
    >>> depth = ("layer", [0.0, 1.0, 3.0])
    >>> data = xr.DataArray([[0.0, 2.0, 6.0]], dims=("run", "layer"), coords={"depth": depth})
    >>> slope(data, "depth").values.tolist()
    [2.0]
    """
    if coordinate not in data.coords:
        raise ValueError(unknown("coordinate", coordinate, map(str, data.coords)))
    places = data[coordinate]
    if places.ndim != 1:
        raise ValueError(f"`coordinate` must have one dimension; {coordinate} has {places.dims}")
    dim = str(places.dims[0])
    fitted: xr.DataArray = xr.apply_ufunc(
        ols_slopes,
        data,
        places.astype(np.float64),
        input_core_dims=[[dim], [dim]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    return fitted.assign_attrs(long_name=f"slope along {coordinate}").rename("slope")


def max_t(data: xr.DataArray, dim: str, **options: Any) -> xr.Dataset:
    """Test every cell of a labelled map at one family-wise error rate.

    Parameters
    ----------
    data : DataArray
        Differences, with units along ``dim`` and the map along the other dimensions. Cells in which
        any unit is missing are not tested; they are nan in the result.
    dim : str
        Dimension of the independent units.
    **options
        Passed to `gradscope.stats.tests.max_t.max_t`.

    Returns
    -------
    Dataset
        ``estimate``, ``t``, ``p_value``, ``low`` and ``high`` on the map's dimensions; ``n``,
        ``critical`` and ``confidence`` as attributes.

    Raises
    ------
    ValueError
        If the dimension is missing, or no cell is known in every unit.

    Examples
    --------
    >>> data = xr.DataArray([[1.0, 1], [2, -2], [3, 1]], dims=("seed", "layer"))
    >>> max_t(data, "seed").p_value.values.tolist()
    [0.5, 1.0]
    """
    _check_dim(data, dim)
    ordered = data.transpose(dim, ...)
    known: xr.DataArray = xr.apply_ufunc(np.isfinite, ordered).all(dim)
    if not bool(known.any()):
        raise ValueError(f"no cell of the map is known in all {data.sizes[dim]} of `{dim}`")
    result = maps.max_t(ordered.values[:, known.values], **options)
    variables = {}
    for name in ("estimate", "t", "p_value", "low", "high"):
        values = np.full(known.shape, np.nan)
        values[known.values] = getattr(result, name)
        variables[name] = known.copy(data=values)
    attrs = {k: getattr(result, k) for k in ("method", "n", "n_flips", "critical", "confidence")}
    return xr.Dataset(variables, attrs={**attrs, "over": dim})


def _check_dim(array: xr.DataArray, dim: str) -> None:
    if dim not in array.dims:
        raise ValueError(unknown("dimension", dim, map(str, array.dims)))

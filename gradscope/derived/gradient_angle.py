"""The angle between the gradients of any two steps, from their sketches."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradscope.errors import RecordingError


def sketch_cosine(tree: xr.DataTree, step: int, other: int) -> xr.DataArray:
    """Estimate the cosine between the gradients of two recorded steps, for each parameter.

    ``<S a, S b> / (|a| |b|)`` with S the count sketch (arXiv 0902.2206); the norms are exact.

    Parameters
    ----------
    tree : DataTree
        A recording with ``/sketches`` and ``/gradients``.
    step, other : int
        Steps that both groups hold.

    Returns
    -------
    DataArray, dims (param,)
        Unbiased estimate. Its standard deviation is about 1/8 for 64 buckets, independent of the
        size of the parameter. Average over parameters or steps to resolve small cosines.

    Raises
    ------
    RecordingError
        If sketches or a step were not recorded.
    """
    sketches = _at(tree, "sketches", "grad_sketch", [step, other])
    norms = _at(tree, "gradients", "grad_norm", [step, other])
    inner = (sketches.isel(step=0, drop=True) * sketches.isel(step=1, drop=True)).sum("sketch")
    product = norms.isel(step=0, drop=True) * norms.isel(step=1, drop=True)
    cosine = (inner / product.where(product > 0)).rename("sketch_cosine")
    cosine.attrs.update(long_name=f"cosine between the gradients of steps {step} and {other}")
    return cosine


def _at(tree: xr.DataTree, group: str, name: str, steps: list[int]) -> xr.DataArray:
    """Read the rows of a variable at some steps, all of which must have been recorded."""
    if group not in tree.children or name not in tree[group].data_vars:
        raise RecordingError(f"this recording holds no /{group}/{name}; record with record='full'")
    data = tree[group].dataset[name]
    recorded = data["step"].values
    for k in steps:
        if k not in recorded:
            nearest = recorded[np.abs(recorded - k).argmin()] if recorded.size else "none"
            raise RecordingError(
                f"step {k} has no `{name}`; the nearest recorded step is {nearest}"
            )
    return data.sel(step=steps).astype("float64")

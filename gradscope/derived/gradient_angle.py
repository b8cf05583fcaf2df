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
    if "sketches" not in tree.children:
        raise RecordingError("this recording holds no sketches; record with record='full'")
    recorded = np.asarray(tree["sketches"].to_dataset()["step"])
    for k in (step, other):
        if k not in recorded:
            nearest = recorded[np.abs(recorded - k).argmin()]
            raise RecordingError(f"step {k} has no sketch; the nearest recorded step is {nearest}")
    sketches = tree["sketches/grad_sketch"].sel(step=[step, other]).astype("float64")
    norms = tree["gradients/grad_norm"].sel(step=[step, other]).astype("float64")
    inner = (sketches.isel(step=0, drop=True) * sketches.isel(step=1, drop=True)).sum("sketch")
    product = norms.isel(step=0, drop=True) * norms.isel(step=1, drop=True)
    cosine = (inner / product.where(product > 0)).rename("sketch_cosine")
    cosine.attrs.update(long_name=f"cosine between the gradients of steps {step} and {other}")
    return cosine

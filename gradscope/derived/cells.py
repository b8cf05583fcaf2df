"""Rows of a picture: a quantity over steps and layers, with what each cell without a number is."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.optimizers import of_optimizer, own_step_places
from gradscope.derived.select import select
from gradscope.errors import UsageError

MISSING, OTHER, NUMBER, NONFINITE = range(4)
"""State of a cell: not recorded or not defined; a step of another optimizer, which moves other
rows; a number; nothing finite to take statistics of, or infinite. Of cells that are drawn as one,
the largest state holds."""


def select_cells(
    tree: xr.DataTree,
    quantity: str,
    *,
    by: str = "weight",
    layers: str | None = None,
    steps: tuple[int | None, int | None] = (None, None),
    optimizer: str | None = None,
) -> xr.DataArray:
    """Select a quantity for a picture; see `select` for the parameters.

    Parameters
    ----------
    optimizer : str, optional
        Of several optimizers, keep the rows that this one trains and the steps that it took. By
        default a row keeps the value of its own optimizer's last step while others step.

    Returns
    -------
    DataArray
        As of `select`, with the coordinate ``cell_state`` over all its dimensions. Cells without a
        number are NaN.

    Raises
    ------
    UsageError
        If nothing is selected.
    """
    data = select(tree, quantity, by=by, layers=layers, steps=steps).load()
    counts = _nonfinite_counts(tree, data, by=by, layers=layers, steps=steps)
    if optimizer is not None:
        data = of_optimizer(tree, data, optimizer)
    values = data.values.astype(float)
    states = np.where(np.isfinite(values), NUMBER, MISSING)
    states[np.isinf(values)] = NONFINITE
    if counts is not None:
        bad = counts.reindex_like(data).values
        numel = np.full(data.shape, np.inf)
        if "numel" in data.coords:  # by run too, where runs differ in width
            numel = data["numel"].broadcast_like(data).transpose(*data.dims).values
        # Recordings of gradscope 0.1 hold 0 where no entry was finite.
        states[(np.isnan(values) & (bad > 0)) | (bad >= np.maximum(numel, 1))] = NONFINITE
    values[states != NUMBER] = np.nan
    if optimizer is None and data.dims[0] == "step":
        places = own_step_places(tree, data)
        held = np.maximum(places, 0)
        values = np.where(places >= 0, np.take_along_axis(values, held, axis=0), np.nan)
        states = np.where(places >= 0, np.take_along_axis(states, held, axis=0), OTHER)
    return data.copy(data=values).assign_coords(cell_state=(data.dims, states.astype(np.int8)))


def _nonfinite_counts(
    tree: xr.DataTree,
    data: xr.DataArray,
    *,
    by: str,
    layers: str | None,
    steps: tuple[int | None, int | None],
) -> xr.DataArray | None:
    """Return non-finite gradient entries of each cell; None where they say nothing of it."""
    name = str(data.name)
    is_of_gradients = name in schema.VARIABLES and schema.find(name)[0] == "gradients"
    if not is_of_gradients or name == "grad_nonfinite":
        return None
    try:
        return select(tree, "grad_nonfinite", by=by, layers=layers, steps=steps).load()
    except UsageError:
        return None


def scalar_states(tree: xr.DataTree, series: xr.DataArray) -> np.ndarray:
    """Return the state of each value of a scalar of ``/training`` or ``/evaluation``.

    A missing loss or gradient norm at a step whose gradients are not all finite is not finite.

    Parameters
    ----------
    tree : DataTree
    series : DataArray, dims (step, …)
    """
    values = np.asarray(series.values, dtype=float)
    is_missing = np.isnan(values) if series.dtype.kind == "f" else values < 0
    states = np.where(is_missing, MISSING, NUMBER)
    states[np.isinf(values)] = NONFINITE
    if series.name in ("loss", "total_grad_norm"):
        bad = np.isin(series["step"].values, _nonfinite_steps(tree))
        states[is_missing & bad] = NONFINITE
    return states


def _nonfinite_steps(tree: xr.DataTree) -> np.ndarray:
    """Return the steps with gradients that are not finite."""
    if "gradients" not in tree.children or "grad_nonfinite" not in tree["gradients"].data_vars:
        return np.zeros(0, dtype=np.int64)
    counts = tree["gradients"].dataset["grad_nonfinite"]
    rest = tuple(range(1, counts.ndim))
    return np.asarray(counts["step"].values[(counts.values > 0).any(axis=rest)])


def nonfinite_as_infinity(data: xr.DataArray) -> xr.DataArray:
    """Write cells that are not finite as infinity, and drop ``cell_state``."""
    values = np.where(states_of(data) == NONFINITE, np.inf, data.values)
    return data.copy(data=values).drop_vars("cell_state", errors="ignore")


def states_of(data: xr.DataArray) -> np.ndarray:
    """Return the state of each cell; of an array without ``cell_state``, from its values."""
    if "cell_state" in data.coords:
        return np.asarray(data["cell_state"].values)
    values = np.asarray(data.values, dtype=float)
    states = np.where(np.isnan(values), MISSING, NUMBER)
    return np.where(np.isinf(values), NONFINITE, states).astype(np.int8)

"""Rows of many runs as one array a condition: the mean over its seeds."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradscope.derived.cells import NUMBER, states_of
from gradscope.errors import UsageError
from gradscope.plots.layouts.run_names import conditions

MAX_PANELS = 6


def mean_by_condition(
    tree: xr.DataTree, data: xr.DataArray, *, is_log: bool
) -> dict[str, xr.DataArray]:
    """Average the runs of each condition.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_runs`.
    data : DataArray, dims (run, step, row)
        From `read_rows`.
    is_log : bool
        Take the geometric mean of what is positive, instead of the mean.

    Returns
    -------
    dict of str to DataArray
        By the name of the condition and its number of runs. Of the states of a cell the largest
        holds, as in `gradscope.derived.cells`.

    Raises
    ------
    UsageError
        If there are more conditions than fit side by side.
    """
    found = {}
    for name, runs in members(tree).items():
        part = data.isel(run=runs)
        states = states_of(part).max(axis=0)
        values = np.where(states_of(part) == NUMBER, part.values.astype(float), np.nan)
        values = np.where(values > 0, values, np.nan) if is_log else values
        counts = np.isfinite(values).sum(axis=0)
        total = np.nansum(np.log(values) if is_log else values, axis=0)
        mean = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
        one = part.isel(run=0, drop=True).drop_vars("cell_state", errors="ignore")
        state_of = (one.dims, states.astype(np.int8))
        found[name] = one.copy(data=np.exp(mean) if is_log else mean).assign_coords(
            cell_state=state_of
        )
    return found


def members(tree: xr.DataTree) -> dict[str, list[int]]:
    """Return the runs of each condition by its name, with the number of runs where several.

    Raises
    ------
    UsageError
        If there are more conditions than fit side by side.
    """
    names = conditions(tree)
    runs = {name: [i for i, own in enumerate(names) if own == name] for name in names}
    if len(runs) > MAX_PANELS:
        raise UsageError(
            f"at most {MAX_PANELS} conditions fit side by side; got {len(runs)}: give fewer"
        )
    return {
        f"{name}, mean of {len(own)} runs" if len(own) > 1 else name: own
        for name, own in runs.items()
    }

"""Alignment of runs by optimizer steps, epochs, or training loss."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradscope.errors import UsageError, unknown

AXES = ("step", "epoch", "loss")
N_LEVELS = 60
SMOOTHED = 0.02
"""Share of a run over which its noisy training loss is averaged."""


def align_runs(tree: xr.DataTree, data: xr.DataArray, axis: str = "step") -> xr.DataArray:
    """Align a quantity of many runs on one axis, without interpolating between rows.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_runs`; ``steps="union"`` keeps most.
    data : DataArray, dims (run, step, …)
        A quantity of that tree, NaN where a run has no row.
    axis : {"step", "epoch", "loss"}
        ``step`` keeps the steps that every run recorded, up to the end of each run. ``epoch`` takes
        the nearest row of every other run for each row of the longest run. ``loss`` takes levels of
        the training loss (the lowest value so far of its average over 2 % of a run) and, for each
        level, the first row at or after the run reached it.

    Returns
    -------
    DataArray, dims (run, axis, …)
        NaN where a run has no such row, because it ended earlier or never reached that loss.

    Raises
    ------
    UsageError
        If the axis is unknown, the runs do not overlap on it, or do not say where they are on it.
    """
    if axis not in AXES:
        raise UsageError(unknown("axis", axis, AXES))
    known = (~np.isnan(data.values)).reshape(*data.shape[:2], -1).any(axis=2)
    for run, name in enumerate(data["run"].values):
        if not known[run].any():
            raise UsageError(f"run {name} has no value of `{data.name}`")
    if axis == "step":
        return _common_steps(data, known)
    if axis == "epoch":
        return _by_epoch(tree, data, known)
    return _by_loss(tree, data, known)


def _common_steps(data: xr.DataArray, known: np.ndarray) -> xr.DataArray:
    places = np.arange(known.shape[1])
    last = np.array([np.flatnonzero(row)[-1] for row in known])
    kept = (known | (places > last[:, None])).all(axis=0) & known.any(axis=0)
    if not (known & kept).any(axis=1).all():
        raise UsageError(f"the runs have no step of `{data.name}` in common; use --axis epoch")
    return data.isel(step=kept)


def _by_epoch(tree: xr.DataTree, data: xr.DataArray, known: np.ndarray) -> xr.DataArray:
    steps = data["step"].values
    epochs = [_epochs(tree, run, steps[row]) for run, row in enumerate(known)]
    start = max(own[0] for own in epochs)
    longest = max(epochs, key=lambda own: (own[-1], -len(own)))
    grid = longest[longest >= start]
    if grid.size < 2 or any(own[-1] < grid[0] for own in epochs):
        raise UsageError("the runs have no epoch in common")
    reach = np.gradient(grid) / 2 * (1 + 1e-9)
    places = []
    for own, row in zip(epochs, known, strict=True):
        nearest = np.abs(own[:, None] - grid[None, :]).argmin(axis=0)
        # In a run with fewer rows, each row is used up to halfway to the next one.
        allowed = np.maximum(reach, np.gradient(own)[nearest] / 2 if own.size > 1 else 0)
        is_near = np.abs(own[nearest] - grid) <= allowed
        places.append(np.where(is_near, np.flatnonzero(row)[nearest], -1))
    attrs = {"long_name": "epoch", "units": "1"}
    return _taken(data, places, "epoch", grid, attrs)


def _epochs(tree: xr.DataTree, run: int, steps: np.ndarray) -> np.ndarray:
    """Return the epochs of data that a run had seen after each of some steps."""
    logged = _column(tree, run, "epoch")
    if logged is not None and len(logged[0]) > 1:
        return epochs_at(steps, *logged)
    name = tree.dataset["run"].values[run]
    evaluated = next(
        (
            found
            for metric in ("val_loss", "train_loss")
            if (found := _column(tree, run, metric)) is not None
        ),
        None,
    )
    is_built_in = bool(_setting(tree, "epochs", run) or _setting(tree, "steps", run))
    ends = evaluated[0][evaluated[0] > 0] if is_built_in and evaluated is not None else np.zeros(0)
    if _setting(tree, "steps", run):
        ends = ends[:-1]  # the last step may stand within an epoch
    if not len(ends):
        raise UsageError(
            f"run {name} does not say how long an epoch is; log it, as recorder.log(epoch=…), or "
            "use --axis step"
        )
    return np.asarray(steps / ends[0])  # the built-in experiment evaluates at the end of each epoch


def epochs_at(steps: np.ndarray, logged: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Return the epochs at some steps; before and after the logged ones at their mean pace.

    Parameters
    ----------
    steps : ndarray, shape (n,)
    logged, epochs : ndarray, shape (m,)
        Steps at which epochs were logged, increasing, m ≥ 2, and these.

    Examples
    --------
    >>> epochs_at(np.array([5, 10, 15, 25]), np.array([10, 20]), np.array([1.0, 2.0])).tolist()
    [0.5, 1.0, 1.5, 2.5]
    """
    pace = (epochs[-1] - epochs[0]) / (logged[-1] - logged[0])
    beyond = steps - np.clip(steps, logged[0], logged[-1])
    return np.asarray(np.interp(steps, logged, epochs) + pace * beyond)


def _setting(tree: xr.DataTree, name: str, run: int) -> object:
    if name in tree.dataset.coords and tree.dataset[name].dims == ("run",):
        return tree.dataset[name].values[run]
    return tree.attrs.get(name)


def _column(tree: xr.DataTree, run: int, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the steps and values of one run's scalar, without what is missing."""
    for group in ("evaluation", "training"):
        node = tree.children.get(group)
        if node is not None and name in node.data_vars:
            column = node.dataset[name]
            values = column.transpose("run", "step").values[run].astype(float)
            finite = np.isfinite(values)
            if finite.any():
                return node.dataset["step"].values[finite], values[finite]
    return None


def loss_progress(steps: np.ndarray, loss: np.ndarray, window: int | None = None) -> np.ndarray:
    """Return the lowest smoothed loss up to each step.

    Parameters
    ----------
    steps, loss : ndarray, shape (n,)
        Of one run, in order.
    window : int, optional
        Losses that are averaged, so that a single batch with a low loss does not count as
        progress: 2 % of the run by default.

    Returns
    -------
    ndarray, shape (n,)
        Non-increasing.

    Examples
    --------
    >>> loss_progress(np.arange(4), np.array([3.0, 1.0, 2.0, 0.5])).tolist()
    [3.0, 1.0, 1.0, 0.5]
    """
    window = max(window or int(SMOOTHED * len(steps)), 1)
    total = np.cumsum(np.insert(loss, 0, 0.0))
    ends = np.arange(1, len(loss) + 1)
    starts = np.maximum(ends - window, 0)
    return np.minimum.accumulate((total[ends] - total[starts]) / (ends - starts))


def _by_loss(tree: xr.DataTree, data: xr.DataArray, known: np.ndarray) -> xr.DataArray:
    steps, columns = data["step"].values, []
    for run, name in enumerate(data["run"].values):
        column = _column(tree, run, "loss")
        if column is None:
            raise UsageError(f"run {name} has no training loss; use --axis step")
        columns.append(column)
    window = int(SMOOTHED * max(len(own) for own, _ in columns))  # one for all: some were killed
    reached = [(own, loss_progress(own, loss, window)) for own, loss in columns]
    high = min(float(progress[0]) for _, progress in reached)
    low = min(float(progress[-1]) for _, progress in reached)
    if not low < high:
        raise UsageError("the training losses of the runs have no level in common")
    levels = np.geomspace(high, low, N_LEVELS) if low > 0 else np.linspace(high, low, N_LEVELS)
    places = []
    for (own_steps, progress), row in zip(reached, known, strict=True):
        at = np.searchsorted(-progress, -(levels + 1e-12 * np.abs(levels)))
        is_reached = at < len(progress)
        at_steps = own_steps[np.minimum(at, len(own_steps) - 1)]
        rows = np.flatnonzero(row)
        later = np.searchsorted(steps[rows], at_steps)
        is_reached &= later < len(rows)
        places.append(np.where(is_reached, rows[np.minimum(later, len(rows) - 1)], -1))
    attrs = {"long_name": "training loss reached", "units": "nat"}
    found = _taken(data, places, "loss", levels, attrs)
    return found.isel(loss=slice(None, None, -1))


def _taken(
    data: xr.DataArray, places: list[np.ndarray], dim: str, grid: np.ndarray, attrs: dict[str, str]
) -> xr.DataArray:
    """Take rows by place, run by run; −1 gives NaN."""
    index = np.stack(places)
    values = np.stack([data.values[run][index[run]] for run in range(len(places))])
    values[index < 0] = np.nan
    kept = {name: c for name, c in data.coords.items() if "step" not in c.dims and name != "step"}
    dims = ("run", dim, *data.dims[2:])
    return xr.DataArray(
        values,
        dims=dims,
        coords={**kept, dim: (dim, grid, attrs)},
        name=data.name,
        attrs=data.attrs,
    )

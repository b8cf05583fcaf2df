"""Curves of many runs on one axis: smoothed, grouped, and no denser than a screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.signal import lfilter

from gradscope.derived.compare.align import epochs_at
from gradscope.derived.select import quantities, row_dim, select
from gradscope.derived.summary import configuration
from gradscope.errors import UsageError
from gradscope.plots.axes.labels import quantity_label
from gradscope.plots.layouts.curve import ranges
from gradscope.store.read.recording import open_recording

X_AXES = ("step", "epoch", "time")
N_GRID = 400
"""Points of a group's mean."""


@dataclass(frozen=True)
class Curve:
    """One number a step of one run, on the axis that was asked for."""

    label: str
    x: np.ndarray
    y: np.ndarray
    layers: tuple[str, ...] = ()


def read_curve(
    path: Path, name: str, *, layer: str = "", by: str = "weight", x: str = "step"
) -> Curve:
    """Read a scalar, or one row of a quantity, over steps, epochs or seconds.

    Raises
    ------
    UsageError
        If the run has no such number, or does not say where it is on that axis.
    """
    with open_recording(path) as tree:
        data, layers = _find(tree, name, layer, by)
        values = np.asarray(data.values, dtype=float)
        steps = data["step"].values
        return Curve(quantity_label(data), _places(tree, steps, x), values, layers)


def _find(
    tree: xr.DataTree, name: str, layer: str, by: str
) -> tuple[xr.DataArray, tuple[str, ...]]:
    for group in ("training", "evaluation"):
        node = tree.children.get(group)
        if node is not None and name in node.data_vars:
            data = node.dataset[name]
            return (data.isel(param_group=0) if "param_group" in data.dims else data), ()
    if name not in quantities(tree):
        raise UsageError(f"has no `{name}`")
    try:
        rows = select(tree, name, by=by)
    except UsageError:
        rows = select(tree, name, by="layer" if by == "param" else "param")
    dim = row_dim(rows)
    layers = tuple(rows[dim].values.astype(str).tolist())
    wanted = layer or layers[0]
    if wanted not in layers:
        raise UsageError(f"has no row {wanted}")
    return select(tree, name, by=by, layers=f"^{re.escape(wanted)}$").isel({dim: 0}), layers


def _places(tree: xr.DataTree, steps: np.ndarray, x: str) -> np.ndarray:
    if x == "step":
        return steps.astype(float)
    if x == "time":
        known = _column(tree, "training", "wall_time")
        if known is None:
            raise UsageError("has no wall_time")
        seconds = np.maximum.accumulate(known[1])  # a resumed run may count from zero again
        return np.asarray(np.interp(steps, known[0], seconds - min(seconds[0], 0)))
    logged = _column(tree, "evaluation", "epoch") or _column(tree, "training", "epoch")
    if logged is not None and len(logged[0]) > 1:
        return epochs_at(steps, *logged)
    evaluated = _column(tree, "evaluation", "val_loss") or _column(tree, "evaluation", "train_loss")
    ends = np.zeros(0) if evaluated is None else evaluated[0][evaluated[0] > 0]
    if not len(ends) or not configuration(tree).get("epochs"):
        raise UsageError("does not say how long an epoch is; log it, as recorder.log(epoch=…)")
    return np.asarray(steps / ends[0])  # the built-in experiment evaluates after each epoch


def _column(tree: xr.DataTree, group: str, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    node = tree.children.get(group)
    if node is None or name not in node.data_vars:
        return None
    values = np.asarray(node.dataset[name].values, dtype=float)
    known = np.isfinite(values)
    return (node.dataset["step"].values[known], values[known]) if known.any() else None


def smooth(values: np.ndarray, weight: float) -> np.ndarray:
    """Average exponentially, corrected for the start; what is missing stays missing.

    ``y_t = sum_i w^(t-i) x_i / sum_i w^(t-i)``, over the values that are finite.

    >>> smooth(np.array([1.0, 3.0]), 0.5).round(3).tolist()
    [1.0, 2.333]
    """
    if not 0 < weight < 1:
        return values
    known = np.isfinite(values)
    total = lfilter([1.0], [1.0, -weight], np.where(known, values, 0.0))
    count = lfilter([1.0], [1.0, -weight], known.astype(float))
    return np.where(known, total / np.maximum(count, 1e-300), np.nan)


def describe_curves(
    curves: dict[str, Curve], groups: dict[str, str], *, weight: float, points: int
) -> dict[str, Any]:
    """Return curves as the page draws them.

    Parameters
    ----------
    curves : dict of str to Curve
        By key of the run.
    groups : dict of str to str
        The group of each run; empty to draw runs alone.
    weight : float
        Of `smooth`, 0 for none.
    points : int
        Per curve at most; of more, mean and range of neighbours.
    """
    smoothed = {key: smooth(curve.y, weight) for key, curve in curves.items()}
    first = next(iter(curves.values()), None)
    layers = dict.fromkeys(name for curve in curves.values() for name in curve.layers)
    return {
        "label": first.label if first else "",
        "layers": list(layers),
        "series": [
            {"key": key, **_decimate(curve.x, smoothed[key], points)}
            for key, curve in curves.items()
        ],
        "groups": [
            _mean_and_band(name, [(curves[k].x, smoothed[k]) for k in keys])
            for name, keys in sorted(_members(groups, list(curves)).items())
        ],
    }


def _members(groups: dict[str, str], keys: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in keys:
        if key in groups:
            found.setdefault(groups[key], []).append(key)
    return found


def _decimate(x: np.ndarray, y: np.ndarray, points: int) -> dict[str, Any]:
    if len(x) <= 2 * points:
        return {"x": numbers(x), "y": numbers(y)}
    middle, low, mean, high = ranges(x, y, points)
    return {"x": numbers(middle), "y": numbers(mean), "low": numbers(low), "high": numbers(high)}


def _mean_and_band(name: str, runs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return the mean over runs, and one standard deviation (n − 1) about it."""
    known = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in runs]
    known = [(x, y) for x, y in known if len(x)]
    if not known:
        return {"name": name, "n": 0, "x": [], "y": [], "low": [], "high": []}
    longest = max((x for x, _ in known), key=len)
    places = np.unique(np.linspace(0, len(longest) - 1, N_GRID).astype(int))
    grid = longest[places]
    table = np.stack([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in known])
    counts = np.isfinite(table).sum(axis=0)
    mean = np.nansum(table, axis=0) / np.maximum(counts, 1)
    squares = np.nansum((table - mean) ** 2, axis=0) / np.maximum(counts - 1, 1)
    spread = np.where(counts > 1, np.sqrt(squares), 0.0)
    mean = np.where(counts > 0, mean, np.nan)
    low, high = numbers(mean - spread), numbers(mean + spread)
    return {
        "name": name,
        "n": len(known),
        "x": numbers(grid),
        "y": numbers(mean),
        "low": low,
        "high": high,
    }


def numbers(values: np.ndarray) -> list[float | None]:
    """Write six digits each; what is not finite becomes a gap."""
    return [float(f"{v:.7g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=float)]

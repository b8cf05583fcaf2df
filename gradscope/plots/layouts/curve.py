"""Curves over steps: a line, and where it is too dense to see, the range behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from gradscope.plots.axes.labels import mark_nonfinite, quantity_label
from gradscope.plots.axes.scales import Scale, format_values

MAX_POINTS = 400


def draw_curve(
    data: xr.DataArray,
    *,
    ax: Axes,
    label: str | None = None,
    color: str = "C0",
    linestyle: str = "-",
    name: str = "",
) -> list[Artist]:
    """Draw one value a step.

    Of more than 800 steps, the line shows the mean of neighbouring ones and the band behind it
    reaches from the smallest to the largest, so that no spike is lost.

    Parameters
    ----------
    data : DataArray, dims (step,)
        For instance the loss; NaN leaves a gap, infinite values are marked at the top.
    ax : Axes
        Where to draw.
    label : str, optional
        On the y axis; by default the quantity's name and unit.
    color, linestyle, name : str
        Of the line; the name stands in a legend.

    Returns
    -------
    list of Artist
        The line and, of a long series, the band.
    """
    steps = data["step"].values
    values = np.asarray(data.values, dtype=float)
    artists: list[Artist] = []
    if len(steps) > 2 * MAX_POINTS:
        steps, low, values, high = ranges(steps, values)
        artists.append(ax.fill_between(steps, low, high, color=color, alpha=0.3, linewidth=0))
    shown = np.where(np.isfinite(values), values, np.nan)
    look: dict[str, Any] = {"color": color, "linestyle": linestyle, "label": name or None}
    artists += ax.plot(steps, shown, **look, **alone(shown))
    mark_nonfinite(ax, data["step"].values[np.isinf(data.values)])
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 50 * finite.min():
        ax.set_yscale("log")
        format_values(ax.yaxis, Scale("log", float(finite.min()), float(finite.max())))
    ax.set_ylabel(quantity_label(data) if label is None else label)
    return artists


def alone(values: np.ndarray) -> dict[str, Any]:
    """Return the marker that shows points without a neighbour, of which no line is seen.

    Parameters
    ----------
    values : ndarray, shape (n,)
        NaN where nothing is drawn.

    Returns
    -------
    dict
        Options of `Axes.plot`.
    """
    known = np.isfinite(np.pad(np.asarray(values, dtype=float), 1, constant_values=np.nan))
    places = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])
    return {"marker": "o", "markevery": places.tolist()} if len(places) else {}


def ranges(
    steps: np.ndarray, values: np.ndarray, n_points: int = MAX_POINTS
) -> Sequence[np.ndarray]:
    """Cut into runs evenly spaced in log step and in step alike; give step, least, mean, most."""
    even = np.linspace(0, len(steps), n_points // 2, endpoint=False)
    early = np.geomspace(1, len(steps), n_points // 2, endpoint=False)
    first = np.unique(np.concatenate([[0], even, early]).astype(int))
    known = np.isfinite(values)
    low = np.minimum.reduceat(np.where(known, values, np.inf), first)
    high = np.maximum.reduceat(np.where(known, values, -np.inf), first)
    counts = np.add.reduceat(known, first, dtype=np.int64)
    mean = np.add.reduceat(np.where(known, values, 0), first) / np.maximum(counts, 1)
    middle = np.add.reduceat(steps.astype(float), first) / np.diff(np.append(first, len(steps)))
    return [middle, *(np.where(counts > 0, series, np.nan) for series in (low, mean, high))]

"""Distribution of the entries of a gradient over steps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from gradscope.plots.axes.scales import power_of_ten
from gradscope.plots.axes.step_axis import format_steps, is_log_spaced, step_columns
from gradscope.plots.axes.style import MISSING_LOOK, NONFINITE_COLOUR
from gradscope.plots.layouts.by_condition import members
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.panels import (
    align,
    map_panels,
    read_histogram,
    share_axis,
    side_by_side,
)
from gradscope.plots.layouts.view import Picture, View, as_table, run_title

LEAST_SHARE = 1e-5


def draw_histogram(
    counts: xr.DataArray,
    *,
    zeros: xr.DataArray | None = None,
    nonfinite: xr.DataArray | None = None,
    ax: Axes | None = None,
    cax: Axes | None = None,
    has_key: bool = True,
    span: tuple[int, int] | None = None,
) -> QuadMesh:
    """Draw the share of entries in each octave of magnitude, over steps.

    Parameters
    ----------
    counts : DataArray, dims (step, grad_bin) or (step, moment_bin)
        Entries with ``2^b <= x < 2^(b + 1)``.
    zeros : DataArray, dims (step,), optional
        Entries that are exactly zero; drawn as a strip of their own below the axis of magnitudes.
    nonfinite : DataArray, dims (step,), optional
        Entries that are not finite; where there are any, a strip of their own above it.
    ax, cax : Axes, optional
        Where to draw the map and its colour bar.
    has_key : bool
        Whether to draw the colour bar, which is the same for every map.
    span : (int, int), optional
        First and last bin to draw, by their place; by default those with any entry.

    Returns
    -------
    QuadMesh
        Shares of each step add up to 1, zeros and non-finite entries included.
    """
    ax = Figure(layout="constrained").add_subplot() if ax is None else ax
    dim = next(str(name) for name in counts.dims if name != "step")
    values = counts.transpose("step", dim).values.astype(float)
    none, beyond = (
        np.zeros(len(values)) if one is None else np.nan_to_num(one.values.astype(float))
        for one in (zeros, nonfinite)
    )
    has_beyond = bool(beyond.any())
    total = values.sum(axis=1) + none + beyond
    empty = np.zeros_like(none)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.column_stack([none, empty, values, empty, beyond]) / total[:, None]
    first, last = _used_bins(values) if span is None else span
    lowest = int(counts[dim].values[0]) + int(first)
    ends = shares[:, -2:] if has_beyond else shares[:, :0]
    shares = np.column_stack([shares[:, :2], shares[:, 2 + first : 3 + last], ends])
    is_log = is_log_spaced(counts["step"].values)
    columns = step_columns(shares, counts["step"].values, is_log_axis=is_log)
    edges = np.arange(lowest - 2, lowest + shares.shape[1] - 1).astype(float)
    shown = np.ma.masked_where(~(columns.values > 0), columns.values)
    mesh = ax.pcolormesh(columns.edges, edges, shown, norm=LogNorm(LEAST_SHARE, 1), rasterized=True)
    if has_beyond:
        beyond_shown = np.ma.masked_where(~(columns.values[-1:] > 0), columns.values[-1:])
        strip = ListedColormap([NONFINITE_COLOUR])
        ax.pcolormesh(columns.edges, edges[-2:], beyond_shown, cmap=strip, rasterized=True)
    _hatch_missing(ax, columns.edges, columns.values)
    format_steps(ax, is_log=is_log)
    ax.set_xlim(columns.edges[0], columns.edges[-1])
    _magnitudes(ax, lowest, lowest + last - first + 1, has_beyond=has_beyond)
    ax.set_ylabel(f"magnitude of {_entries(counts)}")
    figure = ax.get_figure(root=True)
    assert figure is not None
    if has_key:
        label = f"share of {_entries(counts)}"
        figure.colorbar(mesh, cax=cax, ax=None if cax else ax, label=label)
    return mesh


def _used_bins(counts: np.ndarray) -> tuple[int, int]:
    """Return the places of the first and the last bin with any entry, of all where none has."""
    used = np.flatnonzero(np.nansum(counts, axis=0) > 0)
    return (int(used[0]), int(used[-1])) if used.size else (0, counts.shape[1] - 1)


def _entries(counts: xr.DataArray) -> str:
    return "gradient entries" if "grad_bin" in counts.dims else "second moments"


def _hatch_missing(ax: Axes, edges: np.ndarray, shares: np.ndarray) -> None:
    """Hatch the columns of steps without a recorded value."""
    for column in np.flatnonzero(np.isnan(shares).all(axis=0)):
        ax.axvspan(edges[column], edges[column + 1], **MISSING_LOOK, linewidth=0)


def _magnitudes(ax: Axes, low: int, high: int, *, has_beyond: bool) -> None:
    """Label bins by powers of ten, and the strips of zeros and of non-finite entries."""
    octaves = np.log2(10)
    every = max(1, int(np.ceil((high - low) / octaves / 6)))
    tens = [k for k in range(-60, 30) if low + 2 <= k * octaves <= high and k % every == 0]
    ax.yaxis.set_major_locator(
        FixedLocator(
            [low - 1.5, *(k * octaves for k in tens), *([high + 1.5] if has_beyond else [])]
        )
    )
    ax.yaxis.set_major_formatter(
        FuncFormatter(
            lambda value, _: (
                "zero"
                if value < low - 1
                else "non-finite"
                if value > high + 1
                else power_of_ten(10.0 ** round(value / octaves))
            )
        )
    )


def _of_what(names: np.ndarray) -> str:
    """Name the parameters whose entries are shown.

    >>> _of_what(np.array(["a.weight", "b.weight", "c.weight"]))
    'entries of 3 parameters, a.weight to c.weight'
    """
    if len(names) == 1:
        return f"entries of {names[0]}"
    return f"entries of {len(names)} parameters, {names[0]} to {names[-1]}"


def histograms(tree: xr.DataTree, view: View) -> Picture:
    """Draw the distribution of each condition in a panel, over the entries of all seeds."""
    counts = read_histogram(tree, "grad_histogram", view)
    zeros = read_histogram(tree, "grad_histogram_zero", view)
    groups = members(tree)
    titles = [name.replace(", mean of", ",") for name in groups]
    which = _of_what(counts["param"].values.astype(str))
    figure, axes, cax = side_by_side(view, titles, f"{run_title(tree)} · {which}")
    whole = counts.transpose(..., "grad_bin").values.reshape(-1, counts.sizes["grad_bin"])
    span = _used_bins(whole)
    tables = []
    for number, (ax, (name, runs)) in enumerate(zip(axes, groups.items(), strict=True)):
        own = counts.isel(run=runs).sum(("run", "param"), min_count=1)
        none = zeros.isel(run=runs).sum(("run", "param"))
        draw_histogram(own, zeros=none, ax=ax, cax=cax, has_key=not number, span=span)
        tables.append(as_table(own).assign(**{"run is": name}))
    share_axis(axes)
    words = f"Histograms of gradient magnitudes over steps, {which}, of {len(groups)} conditions."
    return Picture(figure, pd.concat(tables), words)


def histogram(tree: xr.DataTree, view: View) -> Picture:
    """Draw the share of gradient entries by magnitude and step, over the chosen parameters."""
    counts = read_histogram(tree, "grad_histogram", view)
    zeros = read_histogram(tree, "grad_histogram_zero", view)
    has_nonfinite = "grad_histogram_nonfinite" in tree["histograms"].data_vars
    name = "grad_histogram_nonfinite" if has_nonfinite else "grad_histogram_zero"
    nonfinite = read_histogram(tree, name, view).where(has_nonfinite, 0)
    names = counts["param"].values.astype(str)
    figure, top, ax, cax = map_panels(tree, counts, view, rows_mm=45)
    total = counts.sum("param", min_count=1)
    draw_histogram(
        total,
        zeros=zeros.sum("param"),
        nonfinite=nonfinite.sum("param"),
        ax=ax,
        cax=cax,
    )
    align(top, ax)
    which = _of_what(names)
    top.set_title(view.titled(f"{run_title(tree)} · {which}"))
    return Picture(
        figure, as_table(total), f"Histogram of gradient magnitudes over steps, {which}."
    )


KIND = Kind(
    name="histogram",
    summary="distribution of gradient magnitudes over steps",
    of_one=histogram,
    of_many=histograms,
)

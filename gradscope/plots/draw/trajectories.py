"""A quantity against steps, one line per layer."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradscope.derived.cells import NONFINITE, NUMBER, states_of
from gradscope.derived.select import row_dim
from gradscope.plots.axes.labels import (
    fit_label,
    label_rows,
    mark_nonfinite,
    note_undrawn,
    quantity_label,
    row_labels,
    settle,
)
from gradscope.plots.axes.scales import declared_kind, format_values, scale_of
from gradscope.plots.axes.step_axis import format_steps, is_log_spaced, step_columns
from gradscope.plots.axes.style import new_figure
from gradscope.plots.layouts.by_condition import mean_by_condition
from gradscope.plots.layouts.curve import alone
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.panels import share_axis, side_by_side
from gradscope.plots.layouts.roles import PLACE, read_roles, united
from gradscope.plots.layouts.view import Picture, View, as_table, describe, read_rows, run_title

MAX_POINTS = 300


def draw_trajectories(
    data: xr.DataArray,
    *,
    ax: Axes | None = None,
    cax: Axes | None = None,
    step_scale: str = "auto",
    places: np.ndarray | None = None,
) -> list[Line2D]:
    """Draw one line per layer, dark at the input and light at the output.

    Parameters
    ----------
    data : DataArray, dims (step, param) or (step, layer)
        In network order. Of many steps, a point is the (geometric) mean of neighbouring ones.
    ax, cax : Axes, optional
        Where to draw the lines and the key to their colours, which names the layers.
    step_scale : {"auto", "linear", "log"}
        As in `draw_heatmap`.
    places : ndarray, shape (n_rows,), optional
        Where each row stands in the network, from 0 to 1, which its colour shows; by default
        evenly spaced.

    Returns
    -------
    list of Line2D
        In network order.
    """
    if ax is None:
        ax, cax = Figure(layout="constrained").subplots(1, 2, width_ratios=[20, 1])
    steps, states = data["step"].values, states_of(data)
    values = np.where(states == NUMBER, np.asarray(data.values, dtype=float), np.nan)
    scale = scale_of(values, declared_kind(data))
    is_log = step_scale == "log" or (step_scale == "auto" and is_log_spaced(steps))
    columns = step_columns(
        values,
        steps,
        states=states,
        is_log_axis=is_log,
        is_log_value=scale.kind == "log",
        max_columns=MAX_POINTS,
    )
    middle = (columns.edges[:-1] + columns.edges[1:]) / 2
    rows = columns.values
    if scale.kind == "log":
        rows = np.where(rows > 0, rows, np.nan)
        ax.set_yscale("log")
    places = np.linspace(0, 1, len(rows)) if places is None else places
    colors = mpl.colormaps["viridis"](0.95 * places)
    width = 0.9 if len(rows) <= 20 else 0.5
    lines = [
        ax.plot(middle, row, color=color, linewidth=width, **alone(row))[0]
        for row, color in zip(rows, colors, strict=True)
    ]
    format_values(ax.yaxis, scale)
    label = "step" if columns.merged == 1 else f"step (a point is a mean of ≤ {columns.merged})"
    format_steps(ax, is_log=is_log, label=label)
    ax.set_xlim(columns.edges[0], columns.edges[-1])
    ax.set_ylabel(quantity_label(data))
    fit_label(ax)
    is_nonfinite = columns.states == NONFINITE
    note_undrawn(ax, np.isnan(rows).all(axis=1) & ~is_nonfinite.any(axis=1))
    is_nonfinite = is_nonfinite.any(axis=0)
    if is_nonfinite.any():
        mark_nonfinite(ax, middle[is_nonfinite])
        ax.legend(handles=ax.lines[-1:], loc="lower right", bbox_to_anchor=(1, 1.01))
    if cax is not None:
        _key(cax, data, colors)
    return lines


def _key(cax: Axes, data: xr.DataArray, colors: np.ndarray) -> None:
    """Draw the key to the colours: a bar with one field per layer, the input at the bottom."""
    n_rows = len(colors)
    cax.pcolormesh(
        [0, 1],
        np.arange(n_rows + 1) - 0.5,
        np.arange(n_rows)[:, None],
        cmap=ListedColormap(colors),
        rasterized=True,
    )
    cax.set_xticks([])
    cax.spines[:].set_visible(False)
    cax.yaxis.tick_right()
    settle(cax)
    label_rows(cax, row_labels(data))


def trajectories(tree: xr.DataTree, view: View) -> Picture:
    """Draw one line per layer against steps; of a transformer, one panel per role."""
    roles = read_roles(tree, view)
    if roles:
        return _by_role(tree, view, roles)
    data = read_rows(tree, view)
    figure, _ = line_panels(tree, data, view)
    return Picture(figure, as_table(data), describe(data, "Trajectories", run_title(tree)))


def _by_role(tree: xr.DataTree, view: View, roles: dict[str, xr.DataArray]) -> Picture:
    """Draw the rows of each role side by side, on one scale, coloured by their place."""
    whole = united(roles)
    figure, axes, cax = side_by_side(view, list(roles), run_title(tree))
    for ax, data in zip(axes, roles.values(), strict=True):
        draw_trajectories(data, ax=ax, step_scale=view.step_scale, places=data[PLACE].values)
    share_axis(axes, scale_of(whole.values, declared_kind(whole)))
    _key(cax, whole, mpl.colormaps["viridis"](0.95 * whole[PLACE].values))
    words = f"Trajectories by role ({', '.join(roles)})"
    return Picture(figure, as_table(whole), describe(whole, words, run_title(tree)))


def many_trajectories(tree: xr.DataTree, view: View) -> Picture:
    """Draw the means over the seeds of each condition, one panel per condition."""
    return draw_conditions(tree, read_rows(tree, view), view)[0]


def draw_conditions(
    tree: xr.DataTree, data: xr.DataArray, view: View
) -> tuple[Picture, list[Axes]]:
    """Draw the trajectories of each condition side by side, on one scale; return the axes too."""
    scale = scale_of(data.values, declared_kind(data))
    parts = mean_by_condition(tree, data, is_log=scale.kind == "log")
    figure, axes, cax = side_by_side(view, list(parts), run_title(tree))
    for ax, own in zip(axes, parts.values(), strict=True):
        draw_trajectories(own, ax=ax, step_scale=view.step_scale)
    share_axis(axes, scale)
    n_rows = data.sizes[row_dim(data)]
    first = next(iter(parts.values()))
    _key(cax, first, mpl.colormaps["viridis"](np.linspace(0, 0.95, n_rows)))
    table = pd.concat([as_table(own).assign(**{"run is": name}) for name, own in parts.items()])
    words = describe(first, f"Trajectories of {len(parts)} conditions", run_title(tree))
    return Picture(figure, table, words), axes


def line_panels(tree: xr.DataTree, data: xr.DataArray, view: View) -> tuple[Figure, Axes]:
    """Make a figure with one line a layer and its colour bar; return it and the lines' axes."""
    figure = new_figure(view.width_mm, min(0.65 * view.width_mm, 110.0 * view.magnification))
    ax, cax = figure.subplots(1, 2, width_ratios=[1, 0.03])
    ax.set_title(view.titled(run_title(tree)))
    draw_trajectories(data, ax=ax, cax=cax, step_scale=view.step_scale)
    return figure, ax


KIND = Kind(
    name="trajectories",
    summary="a quantity against steps, one line per layer",
    of_one=trajectories,
    of_many=many_trajectories,
    of_quantity=True,
)

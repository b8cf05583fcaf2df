"""Relative updates of each layer, with a reference line at 0.001."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from gradscope.plots.draw.trajectories import draw_conditions, line_panels
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.view import Picture, View, as_table, describe, read_rows, run_title


def update_ratio(tree: xr.DataTree, view: View) -> Picture:
    """Draw relative updates, with a line at 0.001, a common rule of thumb for learning rates."""
    data = read_rows(tree, view, "update_ratio")
    figure, ax = line_panels(tree, data, view)
    _draw_rule([ax])
    return Picture(figure, as_table(data), describe(data, "Trajectories", run_title(tree)))


def update_ratios(tree: xr.DataTree, view: View) -> Picture:
    """Draw relative updates, means over the seeds of each condition, one panel per condition."""
    picture, axes = draw_conditions(tree, read_rows(tree, view, "update_ratio"), view)
    _draw_rule(axes)
    return picture


def _draw_rule(axes: list[Axes]) -> None:
    """Draw the reference line on every panel, and label it on the last."""
    for ax in axes:
        ax.axhline(1e-3, color="0.3", linestyle="--", linewidth=0.7, zorder=0)
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, 5e-4), max(high, 2e-3))
    axes[-1].text(
        0.99,
        1e-3,
        "0.001: rule of thumb",
        transform=axes[-1].get_yaxis_transform(),
        ha="right",
        va="bottom",
        fontsize="x-small",
        color="0.3",
        zorder=5,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.5},
    )


KIND = Kind(
    name="update-ratio",
    summary="relative size of the updates against steps, one line per layer",
    of_one=update_ratio,
    of_many=update_ratios,
)

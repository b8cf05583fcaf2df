"""Panels that several kinds of pictures share, and their sizes in mm."""

from __future__ import annotations

import textwrap

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from gradscope.derived.optimizers import of_optimizer, own_step_places
from gradscope.derived.select import row_dim
from gradscope.errors import UsageError
from gradscope.plots.axes.scales import Scale, format_values
from gradscope.plots.axes.style import new_figure
from gradscope.plots.layouts.losses import draw_losses, loss_key, losses_between
from gradscope.plots.layouts.view import View, read_rows, run_title

ROW_MM, LOSS_MM, FRAME_MM = 3.4, 11.0, 14.0
MAP_MM = (22.0, 120.0)
MAX_KEY_SHARE = 0.38
"""Of a figure's width, for a legend beside its panels."""
MAP_SHARE = 0.6
"""Of a figure's width, for the map beside its labels and its colour bar."""
LEGEND_LETTERS = 28
"""Of a line in a legend beside a panel."""


def map_height(data: xr.DataArray, view: View) -> float:
    """Height of a map in mm: enough for its rows to be named, and never more than half a page."""
    rows = data.sizes[row_dim(data)] * ROW_MM
    return float(np.clip(rows, *MAP_MM)) * view.magnification


def map_panels(
    tree: xr.DataTree, data: xr.DataArray, view: View, *, rows_mm: float | None = None
) -> tuple[Figure, Axes, Axes, Axes]:
    """Make the panels of a map: loss above, colour bar beside; draw the loss where there is one."""
    rows = map_height(data, view) if rows_mm is None else rows_mm * view.magnification
    losses = losses_between(tree, data["step"].values, view.optimizer)
    above = LOSS_MM * view.magnification if losses else 0.5
    room = MAP_SHARE * view.width_mm
    key_mm = loss_key(losses, room, view.magnification).height_mm
    figure = new_figure(view.width_mm, rows + above + key_mm + FRAME_MM * view.magnification)
    axes = figure.subplots(
        2, 2, width_ratios=[1, 0.028], height_ratios=[above, rows], squeeze=False
    )
    top = axes[0, 0]
    axes[0, 1].axis("off")
    title = view.titled(run_title(tree))
    draw_losses(losses, ax=top, room_mm=room, size=view.magnification, title=title)
    if not losses:
        top.axis("off")
    return figure, top, axes[1, 0], axes[1, 1]


def align(top: Axes, ax: Axes) -> None:
    """Give the curve above the step axis of the map below."""
    top.set_xscale(ax.get_xscale())
    top.set_xlim(ax.get_xlim())
    top.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    top.spines["bottom"].set_visible(False)


def read_histogram(tree: xr.DataTree, name: str, view: View) -> xr.DataArray:
    """Read the counts of the parameters and steps that a view chooses; NaN where they are missing.

    Parameters without any histogram, as those that were first seen after the last one, are left
    out.
    """
    if "histograms" not in tree.children or name not in tree["histograms"].data_vars:
        raise UsageError(f"this recording has no `{name}`: record the group `histograms`")
    if view.by not in ("weight", "param"):
        raise UsageError(
            f"histograms belong to parameters; got --by {view.by}, use --by weight or --by param"
        )
    choice = View(quantity="grad_norm", by=view.by, layers=view.layers)
    rows = read_rows(tree, choice)
    if "param" not in rows.dims:
        raise UsageError("histograms of other architectures cannot be aligned")
    recorded = tree["histograms"].dataset[name]
    params = rows["param"].values[np.isin(rows["param"].values, recorded["param"].values)]
    if not params.size:
        raise UsageError("no histogram was recorded of the parameters that were asked for")
    data = recorded.sel(param=params)
    first, last = view.steps
    data = data.sel(step=slice(first, last)).load()
    if view.optimizer is not None:
        data = of_optimizer(tree, data, view.optimizer)
    elif "run" not in data.dims:
        places = own_step_places(tree, data)
        held = data.values[np.maximum(places, 0), np.arange(len(params))]
        held[places < 0] = -1
        data = data.copy(data=held)
    if data.sizes["step"] == 0:
        raise UsageError("no histogram was recorded in the steps that were asked for")
    return data.where(data >= 0)


def mark_first_nonfinite(tree: xr.DataTree, *axes: Axes) -> None:
    """Mark the step of the first non-finite gradient on every panel, if it is in view."""
    step = int(tree.attrs.get("first_nonfinite_step", -1))
    low, high = axes[-1].get_xlim()
    if low <= step <= high:
        for ax in axes:
            ax.axvline(step, color="C1", linewidth=0.8)
        x = axes[0].transData.transform((step, 0))[0]
        is_left = axes[0].transAxes.inverted().transform((x, 0))[0] < 0.5
        axes[0].annotate(
            " first non-finite gradient ",
            (step, 1),
            xycoords=("data", "axes fraction"),
            color="C1",
            ha="left" if is_left else "right",
            va="top",
            fontsize="small",
        )


def side_by_side(view: View, titles: list[str], title: str) -> tuple[Figure, list[Axes], Axes]:
    """Make panels with one y axis, a title each, and an axis for a key beside the last."""
    height = min(0.5 * view.page_mm, 75.0 * view.magnification)
    figure = new_figure(view.page_mm, height)
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    ratios = [1.0] * len(titles) + [0.012 * len(titles) + 0.01]
    *axes, cax = figure.subplots(1, len(titles) + 1, width_ratios=ratios, squeeze=False)[0]
    for ax, words in zip(axes, titles, strict=True):
        ax.set_title(textwrap.fill(words, max(int(0.6 * view.page_mm / len(titles)), 12)))
    return figure, axes, cax


def share_axis(axes: list[Axes], scale: Scale | None = None) -> None:
    """Give panels the y range and the ticks that fit all of them, and only the first its label."""
    limits = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        if scale is not None:
            format_values(ax.yaxis, scale)
        if ax is not axes[0]:
            ax.set_ylabel("")
            ax.tick_params(axis="y", which="both", labelleft=False)


def one_legend(axes: list[Axes]) -> None:
    """Keep the legend of the last panel: beside it, or below all where its entries are long."""
    for ax in axes[:-1]:
        if (legend := ax.get_legend()) is not None:
            legend.remove()
    legend, figure = axes[-1].get_legend(), axes[-1].get_figure(root=True)
    if legend is None or figure is None:
        return
    handles = [handle for handle in legend.legend_handles if handle is not None]
    labels = [text.get_text() for text in legend.get_texts()]
    for text in legend.get_texts():
        text.set_text(textwrap.fill(text.get_text(), LEGEND_LETTERS))
    box = legend.get_window_extent()
    if box.width <= MAX_KEY_SHARE * figure.bbox.width and box.height <= figure.bbox.height:
        legend.set_loc("center left")
        legend.set_bbox_to_anchor((1.02, 0.5))
        return
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
    n_columns, line = legend_columns(legend)
    legend.remove()
    figure.set_figheight(figure.get_figheight() + line * -(-len(labels) // n_columns))
    figure.legend(handles, labels, loc="outside lower left", ncols=n_columns)


def legend_columns(legend: Legend) -> tuple[int, float]:
    """Return how many columns of a legend fit into its figure, and the height of a line in inches.

    The legend has one column.
    """
    figure = legend.get_figure(root=True)
    assert figure is not None
    box, n_lines = legend.get_window_extent(), len(legend.get_texts())
    gap = 2.0 * float(legend.get_texts()[0].get_fontsize()) * figure.dpi / 72
    n_columns = int((figure.bbox.width + gap) / (box.width + gap))
    return min(max(n_columns, 1), n_lines), float(box.height / figure.dpi / n_lines)

"""Heatmap of a quantity by layer and step, in network order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gradscope.derived.cells import MISSING, NONFINITE, NUMBER, OTHER, states_of
from gradscope.derived.select import row_dim
from gradscope.errors import UsageError
from gradscope.plots.axes.labels import (
    MAX_LABEL_SHARE,
    along_dim,
    fit_label,
    label_rows,
    quantity_label,
    row_labels,
    settle,
)
from gradscope.plots.axes.scales import Scale, declared_kind, format_values, scale_of, scale_of_rows
from gradscope.plots.axes.step_axis import Columns, format_steps, is_log_spaced, step_columns
from gradscope.plots.axes.style import MISSING_LOOK, NONFINITE_COLOUR, OTHER_COLOUR, new_figure
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.panels import (
    FRAME_MM,
    align,
    map_height,
    map_panels,
    mark_first_nonfinite,
)
from gradscope.plots.layouts.run_names import conditions
from gradscope.plots.layouts.view import (
    Picture,
    View,
    as_table,
    count_hidden,
    describe,
    read_rows,
    run_title,
)

ZERO = "black"
MAX_MAPS = 6


@dataclass(frozen=True)
class Heatmap:
    """Artists of `draw_heatmap`."""

    ax: Axes
    mesh: QuadMesh
    colorbar: Colorbar | None
    columns: Columns
    names: list[str]
    """Of the rows."""


def draw_heatmap(
    data: xr.DataArray,
    *,
    ax: Axes | None = None,
    cax: Axes | None = None,
    scale: Scale | None = None,
    step_scale: str = "auto",
    has_key: bool = True,
    missing: str = "missing",
    fits: bool = True,
) -> Heatmap:
    """Draw a quantity over steps and layers, the input at the bottom.

    Parameters
    ----------
    data : DataArray, dims (step, param) or (step, layer)
        In network order; ``epoch`` or ``loss`` may stand for ``step``. Cells without a number are
        hatched where missing, magenta where not finite, and blank at steps of another optimizer,
        as the coordinate ``cell_state`` says (`gradscope.derived.cells`). Zeros that a log scale
        cannot show are black. A legend names what occurs.
    ax, cax : Axes, optional
        Where to draw the map and its colour bar; by default a new figure, and beside ``ax``.
    scale : Scale, optional
        Colours; by default from the values. Give one to several maps to compare them.
    step_scale : {"auto", "linear", "log"}
        ``auto`` takes a log axis where steps were recorded ever more rarely.
    has_key : bool
        Whether to draw a colour bar; several maps with one scale need one only.
    missing : str
        What the legend calls cells without a value.
    fits : bool
        Whether to fit the labels to their room. Of a figure with several maps, which takes a
        while to lay out, call `fit_labels` once in the end.

    Returns
    -------
    Heatmap
    """
    ax = Figure(layout="constrained").add_subplot() if ax is None else ax
    along = data[along_dim(data)]
    steps, states = along.values, states_of(data)
    values = np.where(states == NUMBER, np.asarray(data.values, dtype=float), np.nan)
    scale = scale_of_rows(values, declared_kind(data)) if scale is None else scale
    is_log = step_scale == "log" or (step_scale == "auto" and is_log_spaced(steps))
    columns = step_columns(
        values, steps, states=states, is_log_axis=is_log, is_log_value=scale.kind == "log"
    )
    mesh = _mesh(ax, columns, scale)
    label = quantity_label(along) if along.name != "step" else "step"
    label += f" (a column is a mean of ≤ {columns.merged})" if columns.merged > 1 else ""
    format_steps(ax, is_log=is_log, label=label, is_whole=along.name == "step")
    ends = columns.edges[[0, -1]]
    ax.set_xlim(*(ends[::-1] if along.name == "loss" else ends))  # time goes right, losses fall
    rows = "layer" if row_dim(data) != "relative_depth" else "relative depth"
    ax.set_ylabel(f"{rows} (input\u00a0→\u00a0output)", labelpad=4)
    ax.spines[:].set_visible(False)
    _stages(ax, data)
    _legend(ax, columns, scale, missing)
    bar = draw_key(mesh, data, scale, ax=ax, cax=cax) if has_key else None
    if bar is not None and not np.isfinite(values).any():
        bar.ax.yaxis.set_ticks([])  # colours that no cell has mean nothing
    drawn = Heatmap(ax, mesh, bar, columns, row_labels(data))
    if fits:
        fit_labels([drawn])
    return drawn


def fit_labels(maps: Sequence[Heatmap], *bars: Colorbar, share: float = MAX_LABEL_SHARE) -> None:
    """Fit the labels of maps and colour bars to the room that the figure's layout leaves them.

    Names of rows take at most about ``share`` of the figure's width.
    """
    bars = (*bars, *(drawn.colorbar for drawn in maps if drawn.colorbar is not None))
    axes = [bar.ax for bar in bars] + [drawn.ax for drawn in maps]
    settle(axes[0])
    for ax in axes:
        fit_label(ax)
    for drawn in maps:
        label_rows(drawn.ax, drawn.names, share=share)


def draw_key(
    mesh: QuadMesh, data: xr.DataArray, scale: Scale, *, ax: Axes, cax: Axes | None = None
) -> Colorbar:
    """Draw the colour bar of a quantity, with its name, unit and readable ticks.

    Its label waits for `fit_labels`.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(mesh, cax=cax, ax=None if cax else ax, extend=scale.extend)
    bar.set_label(quantity_label(data) + (f" ({scale.note})" if scale.note else ""))
    format_values(bar.ax.yaxis, scale)
    bar.outline.set_visible(False)
    return bar


def _mesh(ax: Axes, columns: Columns, scale: Scale) -> QuadMesh:
    """Draw the cells as one raster image, and one more for each kind of special cell."""
    rows = np.arange(columns.values.shape[0] + 1) - 0.5
    values = np.where(columns.states == NUMBER, columns.values, np.nan)
    mesh = ax.pcolormesh(
        columns.edges,
        rows,
        np.ma.masked_invalid(values),
        norm=scale.norm,
        cmap=scale.cmap,
        rasterized=True,
    )
    for is_kind, color in _own_colours(columns, scale):
        if is_kind.any():
            marks = np.ma.masked_where(~is_kind, np.ones(is_kind.shape))
            ax.pcolormesh(columns.edges, rows, marks, cmap=ListedColormap([color]), rasterized=True)
    ax.patch.set(**MISSING_LOOK)
    return mesh


def _own_colours(columns: Columns, scale: Scale) -> list[tuple[np.ndarray, str]]:
    """Return the cells that are drawn in a colour outside the colour bar, by kind."""
    is_zero = (columns.states == NUMBER) & (columns.values == 0) & (scale.kind == "log")
    return [
        (is_zero, ZERO),
        (columns.states == NONFINITE, NONFINITE_COLOUR),
        (columns.states == OTHER, OTHER_COLOUR),
    ]


def _stages(ax: Axes, data: xr.DataArray) -> None:
    """Draw a thin line at each change of resolution."""
    if "stage" not in data.coords:
        return
    stage = data["stage"].values
    borders = np.flatnonzero(np.diff(stage)) + 0.5
    if borders.size <= len(stage) / 2:
        for border in borders:
            ax.axhline(border, color="white", linewidth=0.5, zorder=3)


def _legend(ax: Axes, columns: Columns, scale: Scale, missing: str) -> None:
    """Add a legend of the special cells that occur."""
    patches = []
    if (columns.states == MISSING).any():
        patches.append(Patch(**MISSING_LOOK, linewidth=0, label=missing))
    names = ("zero", "non-finite", "another optimizer's step")
    for (is_kind, color), name in zip(_own_colours(columns, scale), names, strict=True):
        if is_kind.any():
            edge = "0.72" if color == OTHER_COLOUR else color
            patches.append(Patch(facecolor=color, edgecolor=edge, linewidth=0.5, label=name))
    if patches:
        ax.legend(handles=patches, loc="lower right", bbox_to_anchor=(1, 1.01), ncols=4)


def heatmap(tree: xr.DataTree, view: View) -> Picture:
    """Draw a quantity by layer and step, with the loss above on the same step axis."""
    data = read_rows(tree, view)
    figure, top, ax, cax = map_panels(tree, data, view)
    draw_heatmap(data, ax=ax, cax=cax, step_scale=view.step_scale)
    align(top, ax)
    mark_first_nonfinite(tree, top, ax)
    words = describe(data, "Heatmap", run_title(tree))
    if hidden := count_hidden(tree, data, view):
        ax.set_xlabel(f"{ax.get_xlabel()}\n{hidden}")
        words += f" {hidden.capitalize()}."
    return Picture(figure, as_table(data), words)


def _one_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Put one legend of the special cells below all maps, whose titles would be in its way."""
    handles: dict[object, Artist] = {}
    for ax in axes:
        legend = ax.get_legend()
        if legend is not None:
            found = [handle for handle in legend.legend_handles if handle is not None]
            handles |= {handle.get_label(): handle for handle in found}
            legend.remove()
    if handles:
        labels = list(map(str, handles))
        figure.legend(list(handles.values()), labels, loc="outside lower right", ncols=4)


def heatmaps(tree: xr.DataTree, view: View) -> Picture:
    """Draw maps of several runs side by side with one colour scale; titles say what differs."""
    data = read_rows(tree, view)
    names = conditions(tree, with_seed=True)
    if len(names) > MAX_MAPS:
        raise UsageError(f"at most {MAX_MAPS} maps fit side by side; got {len(names)} recordings")
    height = map_height(data.isel(run=0), view) + FRAME_MM * view.magnification
    figure = new_figure(view.width_mm, height)
    ratios = [1.0] * len(names) + [0.05]
    *axes, cax = figure.subplots(1, len(names) + 1, width_ratios=ratios, squeeze=False)[0]
    scale = scale_of(data.values, declared_kind(data))
    maps = []
    for number, (ax, name) in enumerate(zip(axes, names, strict=True)):
        one = data.isel(run=number)
        is_recorded = (states_of(one) != MISSING).any(axis=1)
        one = one.isel(step=is_recorded) if is_recorded.any() else one
        options: dict[str, Any] = {"scale": scale, "step_scale": view.step_scale}
        maps.append(draw_heatmap(one, ax=ax, has_key=False, fits=False, **options))
        ax.set_title(view.titled(name, n_panels=len(names)))
        if number:
            ax.set_ylabel("")
            ax.tick_params(axis="y", which="both", labelleft=False)
    _one_legend(figure, axes)
    fit_labels(maps, draw_key(maps[-1].mesh, data, scale, ax=axes[-1], cax=cax))
    words = f"Heatmaps of {len(names)} runs ({'; '.join(names)})"
    return Picture(figure, as_table(data), describe(data.isel(run=0), words, run_title(tree)))


KIND = Kind(
    name="heatmap",
    summary="a quantity by layer and step, with the loss above",
    of_one=heatmap,
    of_many=heatmaps,
    of_quantity=True,
)

"""Whole figures: what `gradscope plot` writes and a notebook shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from gradscope.errors import UsageError, unknown
from gradscope.plots.axes.style import figure_style, save_figure
from gradscope.plots.layouts import many_runs, one_run, overview
from gradscope.plots.layouts.view import Picture, View

__all__ = ["KINDS", "MANY", "View", "draw_picture", "draw_to_file", "plot_recording"]

Layout = Callable[[xr.DataTree, View], Picture]

KINDS: dict[str, Layout] = {
    "heatmap": one_run.heatmap,
    "profile": one_run.profile,
    "trajectories": one_run.trajectories,
    "histogram": one_run.histogram,
    "effective-lr": one_run.effective_lr,
    "update-ratio": one_run.update_ratio,
    "spike": one_run.spike,
    "overview": overview.overview,
    "curves": many_runs.curves,
    "alpha": many_runs.alpha,
}
"""Every kind of figure, drawn from one recording."""

MANY: dict[str, Layout] = {
    "heatmap": many_runs.heatmaps,
    "profile": many_runs.profiles,
    "curves": many_runs.curves,
    "alpha": many_runs.alpha,
}
"""Those that can be drawn from many recordings, opened with `gradscope.open_runs`."""


def plot_recording(tree: xr.DataTree, view: View | None = None) -> Figure:
    """Draw one recording, or many.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_recording`, or from `gradscope.open_runs`.
    view : View, optional
        By default the heatmap of ``grad_norm`` over weight layers and steps, one column wide.

    Returns
    -------
    Figure
        A notebook shows it as the value of a cell.

    Raises
    ------
    UsageError
        If the recording has nothing of what is asked for.
    """
    return draw_picture(tree, View() if view is None else view).figure


def draw_picture(tree: xr.DataTree, view: View) -> Picture:
    """Draw, and keep the plotted numbers and the words beside the figure.

    Raises
    ------
    UsageError
        If the kind is unknown, or the recording has nothing of what is asked for.
    """
    is_many = "run" in tree.dims
    known = MANY if is_many else KINDS
    if view.kind in KINDS and view.kind not in known:
        kinds = ", ".join(sorted(MANY))
        raise UsageError(f"`{view.kind}` draws one recording; of many there are: {kinds}")
    if view.kind not in known:
        raise UsageError(unknown("kind", view.kind, known))
    with figure_style(view.style):
        picture = known[view.kind](tree, view)
        picture.figure.draw_without_rendering()  # Ticks take their look when first needed: here.
    return picture


def draw_to_file(
    tree: xr.DataTree, view: View, path: Path, *, data_path: Path | None = None
) -> Path:
    """Draw, and write the figure with its alternative text inside.

    Parameters
    ----------
    tree, view
        As in `plot_recording`.
    path : Path
        png, pdf or svg.
    data_path : Path, optional
        Also write the plotted numbers there, as CSV.

    Raises
    ------
    UsageError
        If the recording has nothing of what is asked for, or the suffix is none of the three.
    """
    return save_picture(draw_picture(tree, view), view.style, path, data_path=data_path)


def save_picture(
    picture: Picture, style: str, path: Path, *, data_path: Path | None = None
) -> Path:
    """Write a picture that was drawn in a style, and on request its numbers as CSV."""
    with figure_style(style):
        save_figure(picture.figure, path, description=picture.description)
    if data_path is not None:
        picture.data.to_csv(data_path, index=False)
    return path

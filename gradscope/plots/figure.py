"""Whole figures: what `gradscope plot` writes and a notebook shows."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from gradscope.errors import UsageError, unknown
from gradscope.plots import draw
from gradscope.plots.axes.style import figure_style, save_figure
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.view import Picture, View

__all__ = ["KINDS", "Kind", "View", "draw_picture", "draw_to_file", "plot_recording"]


def _find_kinds() -> dict[str, Kind]:
    """Collect ``KIND`` of every module in `gradscope.plots.draw` that has one."""
    names = sorted(module.name for module in pkgutil.iter_modules(draw.__path__))
    modules = (importlib.import_module(f"{draw.__name__}.{name}") for name in names)
    kinds = (getattr(module, "KIND", None) for module in modules)
    return {kind.name: kind for kind in kinds if kind is not None}


KINDS: dict[str, Kind] = _find_kinds()
"""Every kind of picture by name."""


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
    if view.kind not in KINDS:
        raise UsageError(unknown("kind", view.kind, KINDS))
    is_many = "run" in tree.dims
    kind = KINDS[view.kind]
    layout = kind.of_many if is_many else kind.of_one
    if layout is None:
        fitting = (k.name for k in KINDS.values() if (k.of_many if is_many else k.of_one))
        raise UsageError(
            f"`{view.kind}` draws {'one recording' if is_many else 'several recordings'}; of "
            f"{'several' if is_many else 'one'} there are: {', '.join(sorted(fitting))}"
        )
    with figure_style(view.style):
        picture = layout(tree, view)
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

"""A whole figure of one recording: what `gradscope plot` writes and a notebook shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradscope.errors import UsageError, unknown
from gradscope.plots.curves import draw_curve
from gradscope.plots.heatmap import draw_heatmap
from gradscope.plots.labels import quantity_label
from gradscope.plots.profile import draw_profile
from gradscope.plots.rows import row_dim, select_rows
from gradscope.plots.style import figure_style, new_figure, save_figure, width_mm
from gradscope.plots.trajectories import draw_trajectories

ROW_MM, LOSS_MM, FRAME_MM = 3.3, 11.0, 14.0
MAP_MM = (20.0, 120.0)


@dataclass(frozen=True)
class View:
    """What to draw of a recording: the options of `select_rows`, and the size and the look."""

    quantity: str = "grad_norm"
    kind: str = "heatmap"
    by: str = "weight"
    layers: str | None = None
    steps: tuple[int | None, int | None] = (None, None)
    step_scale: str = "auto"
    width: str | float = "column"
    style: str = "paper"


def plot_recording(tree: xr.DataTree, view: View | None = None) -> Figure:
    """Draw one recording.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_recording`.
    view : View, optional
        By default the heatmap of ``grad_norm`` over weight layers and steps, one column wide.

    Returns
    -------
    Figure
        To save with `gradscope.plots.style.save_figure`, or to show as the value of a cell.

    Raises
    ------
    UsageError
        If the recording has nothing of what is asked for.
    """
    view = View() if view is None else view
    return _draw(tree, select(tree, view), view)


def draw_to_file(tree: xr.DataTree, view: View, path: Path) -> Path:
    """Draw one recording and write the figure, its alternative text inside.

    Raises
    ------
    UsageError
        If the recording has nothing of what is asked for, or the suffix is not png, pdf or svg.
    """
    data = select(tree, view)
    figure = _draw(tree, data, view)
    with figure_style(view.style):
        return save_figure(figure, path, description=describe(tree, data, view))


def select(tree: xr.DataTree, view: View) -> xr.DataArray:
    """Read the numbers that a view shows.

    Raises
    ------
    UsageError
        If there are none.
    """
    if view.kind not in KINDS:
        raise UsageError(unknown("kind", view.kind, KINDS))
    data = select_rows(tree, view.quantity, by=view.by, layers=view.layers, steps=view.steps).load()
    if not np.isfinite(data.values).any():
        raise UsageError(f"`{view.quantity}` is missing at every step that was asked for")
    return data


def _draw(tree: xr.DataTree, data: xr.DataArray, view: View) -> Figure:
    with figure_style(view.style):
        figure = KINDS[view.kind](tree, data, view)
        figure.draw_without_rendering()  # Ticks take their look when they are first needed: here.
    return figure


def _heatmap(tree: xr.DataTree, data: xr.DataArray, view: View) -> Figure:
    width = width_mm(view.width, style=view.style)
    factor = width_mm("column", style=view.style) / width_mm("column")
    rows = float(np.clip(data.sizes[row_dim(data)] * ROW_MM, *MAP_MM)) * factor
    loss = _loss(tree, data)
    above = LOSS_MM * factor if loss is not None else 0.5
    figure = new_figure(width, rows + above + FRAME_MM * factor)
    axes = figure.subplots(
        2, 2, width_ratios=[1, 0.028], height_ratios=[above, rows], squeeze=False)  # fmt: skip
    top, ax = axes[0, 0], axes[1, 0]
    axes[0, 1].axis("off")
    top.set_title(run_title(tree))
    if loss is None:
        top.axis("off")
    else:
        draw_curve(loss, ax=top, label="loss")
    heatmap = draw_heatmap(data, ax=ax, cax=axes[1, 1], step_scale=view.step_scale)
    top.set_xscale(ax.get_xscale())
    top.set_xlim(ax.get_xlim())
    top.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    top.spines["bottom"].set_visible(False)
    _mark_first_nonfinite(tree, top, heatmap.ax)
    return figure


def _profile(tree: xr.DataTree, data: xr.DataArray, view: View) -> Figure:
    width = width_mm(view.width, style=view.style)
    figure = new_figure(width, min(0.65 * width, 90.0))
    ax = figure.add_subplot()
    ax.set_title(run_title(tree))
    draw_profile(data, ax=ax)
    return figure


def _trajectories(tree: xr.DataTree, data: xr.DataArray, view: View) -> Figure:
    width = width_mm(view.width, style=view.style)
    figure = new_figure(width, min(0.65 * width, 110.0))
    ax, cax = figure.subplots(1, 2, width_ratios=[1, 0.03])
    ax.set_title(run_title(tree))
    draw_trajectories(data, ax=ax, cax=cax, step_scale=view.step_scale)
    return figure


KINDS: dict[str, Callable[[xr.DataTree, xr.DataArray, View], Figure]] = {
    "heatmap": _heatmap,
    "profile": _profile,
    "trajectories": _trajectories,
}


def run_title(tree: xr.DataTree) -> str:
    """Say in one line which run this is."""
    words = [str(tree.attrs[key]) for key in ("model_name", "dataset_name", "optimizer_name")
             if tree.attrs.get(key)]  # fmt: skip
    training = tree.children.get("training")
    if training is not None and "alpha" in training.data_vars:
        known = np.unique(training.dataset["alpha"].values)
        known = known[np.isfinite(known)]
        if known.size == 1:
            words.append(f"α = {known[0]:g}".replace("-", "−"))
    if "seed" in tree.attrs:
        words.append(f"seed {tree.attrs['seed']}")
    return " · ".join(words)


def describe(tree: xr.DataTree, data: xr.DataArray, view: View) -> str:
    """Put the picture into words, for its alternative text."""
    values = np.asarray(data.values, dtype=float)
    finite = values[np.isfinite(values)]
    names = data[row_dim(data)].values.astype(str)
    steps = data["step"].values
    missing = np.isnan(values).mean()
    ending = f" {missing:.1%} of the values are missing." if missing else ""
    return (
        f"{view.kind.capitalize()} of {quantity_label(data)} over {len(steps)} recorded steps "
        f"({steps[0]} to {steps[-1]}) and {len(names)} rows, from {names[0]} at the input to "
        f"{names[-1]} at the output. Values from {finite.min():.3g} to {finite.max():.3g}, "
        f"median {np.median(finite):.3g}.{ending} {run_title(tree)}"
    ).strip()


def _loss(tree: xr.DataTree, data: xr.DataArray) -> xr.DataArray | None:
    """Return the loss over the steps that are drawn; None where there is none."""
    training = tree.children.get("training")
    if training is None or "loss" not in training.data_vars:
        return None
    steps = data["step"].values
    loss = training.dataset["loss"].sel(step=slice(steps[0], steps[-1])).load()
    return loss if np.isfinite(loss.values).any() else None


def _mark_first_nonfinite(tree: xr.DataTree, *axes: Axes) -> None:
    step = int(tree.attrs.get("first_nonfinite_step", -1))
    low, high = axes[-1].get_xlim()
    if low <= step <= high:
        for ax in axes:
            ax.axvline(step, color="C1", linewidth=0.8)
        axes[0].annotate(
            "first non-finite gradient ", (step, 1), xycoords=("data", "axes fraction"),
            color="C1", ha="right", va="top", fontsize="small")  # fmt: skip

"""One-page overview of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradscope.derived.cells import select_cells
from gradscope.derived.select import quantities
from gradscope.errors import UsageError
from gradscope.plots.axes.labels import MAX_LABEL_SHARE
from gradscope.plots.axes.step_axis import format_steps
from gradscope.plots.axes.style import new_figure
from gradscope.plots.draw.heatmap import draw_heatmap, fit_labels
from gradscope.plots.draw.profile import draw_profile
from gradscope.plots.layouts.bands import metric_label
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.losses import (
    draw_losses,
    loss_key,
    losses_between,
    recorded_losses,
)
from gradscope.plots.layouts.view import Picture, View, as_table, run_title

ROW_MM = 55.0
MAPS = ("grad_norm", "output_grad_rms", "update_ratio", "exp_avg_sq_mean")


def overview(tree: xr.DataTree, view: View) -> Picture:
    """Draw loss and accuracy, gradients against depth, and maps of four quantities."""
    found, without = _found(tree, view)
    width = view.width_mm if view.width != View().width else 183.0 * view.magnification
    n_rows = (len(found) + 1) // 2
    first = next(iter(found.values()))
    losses = losses_between(tree, first["step"].values)
    row, room = ROW_MM * view.magnification, 0.35 * width
    heights = [row + loss_key(losses, room, view.magnification).height_mm, n_rows * row]
    figure = new_figure(width, sum(heights))
    figure.suptitle(run_title(tree), x=0.01, ha="left", fontsize="medium")
    # Two parts: the legend beside the profile must not narrow the maps below it.
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    above = upper.subplots(1, 2)
    draw_losses(losses, ax=above[0], room_mm=room, size=view.magnification)
    _complete_outcome(tree, above[0], has_curve=bool(losses))
    draw_profile(first, ax=above[1])
    maps = lower.subplots(n_rows, 2, squeeze=False).ravel()
    fit_labels(
        [
            draw_heatmap(data, ax=ax, step_scale=view.step_scale, fits=False)
            for ax, data in zip(maps, found.values(), strict=False)
        ],
        share=MAX_LABEL_SHARE / 2,
    )
    _one_step_axis([above[0], *maps[: len(found)]])
    for ax in maps[len(found) :]:
        ax.axis("off")
    _align(figure, above, maps[:2])
    _keep_inside(above[1])
    table = pd.concat([_long(data) for data in found.values()], ignore_index=True)
    words = f"Overview: loss and accuracy, a profile, and maps of {', '.join(found)}."
    if without:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in without.items())
        words = f"{words} Left out: {reasons}."
    return Picture(figure, table, f"{words} {run_title(tree)}")


def _found(tree: xr.DataTree, view: View) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    """Read the maps that have rows in a view, and say of the others why they have none.

    Raises
    ------
    UsageError
        If none has any.
    """
    known = quantities(tree)
    options: dict[str, Any] = {"by": view.by, "layers": view.layers, "steps": view.steps}
    found, without = {}, {}
    for name in (name for name in MAPS if name in known):
        try:
            found[name] = select_cells(tree, name, optimizer=view.optimizer, **options)
        except UsageError as error:
            without[name] = str(error)
    if not found:
        none = "this recording has none of " + ", ".join(MAPS)
        raise UsageError(next(iter(without.values()), none))
    return found, without


def _align(figure: Figure, above: Sequence[Axes], below: Sequence[Axes]) -> None:
    """Give the panels above the left and right edges of the maps below them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it would undo this
    for upper, lower in zip(above, below, strict=True):
        # Both parts are as wide as the figure, so that their shares of it can be compared.
        place, edges = upper.get_position(), lower.get_position()
        for ax in upper.figure.axes:
            if ax.bbox.bounds == upper.bbox.bounds:  # the panel, and its second y axis
                ax.set_position((edges.x0, place.y0, edges.width, place.height))


def _keep_inside(ax: Axes) -> None:
    """Move a legend that the edge of the figure would cut into its panel."""
    legend, figure = ax.get_legend(), ax.get_figure(root=True)
    if legend is None or figure is None:
        return
    if legend.get_window_extent().x1 > figure.bbox.x1:
        legend.set_loc("best")
        legend.set_bbox_to_anchor((0, 0, 1, 1), ax.transAxes)


def _one_step_axis(axes: list[Axes]) -> None:
    """Give the curves and the maps the same step axis, from the first step of any to the last."""
    maps = axes[1:]
    low = min(ax.get_xlim()[0] for ax in maps)
    high = max(ax.get_xlim()[1] for ax in maps)
    is_log = maps[0].get_xscale() == "log"
    for ax in axes:
        format_steps(ax, is_log=is_log, label=ax.get_xlabel())
        ax.set_xlim(low, high)


def _long(data: xr.DataArray) -> pd.DataFrame:
    """Name the value column alike for every quantity."""
    return as_table(data).rename(columns={str(data.name): "value"}).assign(quantity=str(data.name))


def _complete_outcome(tree: xr.DataTree, ax: Axes, *, has_curve: bool) -> None:
    """Draw validation accuracy on a right axis; say why there is no loss on the left one."""
    if not has_curve:
        words = "the loss is nowhere finite" if recorded_losses(tree) else "no loss was logged"
        ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", color="0.35")
        ax.set_yticks([])
    ax.set_xlabel("step")
    node = tree.children.get("evaluation")
    if node is None or "val_accuracy" not in node.data_vars:
        return
    accuracy = node.dataset["val_accuracy"].load().dropna("step")
    right = ax.twinx()
    right.plot(accuracy["step"], accuracy, color="C1", marker="o")
    right.set_ylabel(metric_label("val_accuracy"), color="C1")
    right.spines["right"].set_visible(True)


KIND = Kind(name="overview", summary="a one-page overview of a run", of_one=overview)

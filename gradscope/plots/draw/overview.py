"""One screen for one run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from gradscope.derived.cells import select_cells
from gradscope.derived.select import quantities
from gradscope.errors import UsageError
from gradscope.plots.axes.style import new_figure
from gradscope.plots.draw.heatmap import draw_heatmap
from gradscope.plots.draw.profile import draw_profile
from gradscope.plots.layouts.bands import metric_label
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.panels import draw_losses, has_loss, losses_between
from gradscope.plots.layouts.view import Picture, View, as_table, run_title

MAPS = ("grad_norm", "output_grad_rms", "update_ratio", "exp_avg_sq_mean")


def overview(tree: xr.DataTree, view: View) -> Picture:
    """Loss and accuracy, gradients against depth, and maps of four quantities."""
    known = quantities(tree)
    options: dict[str, Any] = {"by": view.by, "layers": view.layers, "steps": view.steps}
    found = {
        name: select_cells(tree, name, optimizer=view.optimizer, **options)
        for name in MAPS
        if name in known
    }
    if not found:
        raise UsageError("this recording has none of " + ", ".join(MAPS))
    width = view.width_mm if view.width != View().width else 183.0 * view.magnification
    n_rows = 1 + (len(found) + 1) // 2
    figure = new_figure(width, n_rows * 55 * view.magnification)
    figure.suptitle(run_title(tree), x=0.01, ha="left", fontsize="medium")
    # A part for each row: the legend beside the profile must not narrow the maps below it.
    parts = figure.subfigures(n_rows, 1, squeeze=False)[:, 0]
    first = next(iter(found.values()))
    above = parts[0].subplots(1, 2)
    _outcome(tree, first["step"].values, above[0])
    draw_profile(first, ax=above[1])
    maps = np.concatenate([part.subplots(1, 2) for part in parts[1:]])
    for ax, data in zip(maps, found.values(), strict=False):
        draw_heatmap(data, ax=ax, step_scale=view.step_scale)
    _one_step_axis([above[0], *maps[: len(found)]])
    for ax in maps[len(found) :]:
        ax.axis("off")
    table = pd.concat([_long(data) for data in found.values()], ignore_index=True)
    words = f"Overview: loss and accuracy, a profile, and maps of {', '.join(found)}."
    return Picture(figure, table, f"{words} {run_title(tree)}")


def _one_step_axis(axes: list[Axes]) -> None:
    """Give the curves and the maps the same step axis, from the first step of any to the last."""
    maps = axes[1:]
    low = min(ax.get_xlim()[0] for ax in maps)
    high = max(ax.get_xlim()[1] for ax in maps)
    for ax in axes:
        ax.set_xscale(maps[0].get_xscale())
        ax.set_xlim(low, high)


def _long(data: xr.DataArray) -> pd.DataFrame:
    """Name the value column alike for every quantity."""
    return as_table(data).rename(columns={str(data.name): "value"}).assign(quantity=str(data.name))


def _outcome(tree: xr.DataTree, steps: np.ndarray, ax: Axes) -> None:
    """Draw the loss on the left axis and validation accuracy on the right one."""
    losses = losses_between(tree, steps)
    draw_losses(losses, ax=ax)
    if not losses:
        words = "the loss is nowhere finite" if has_loss(tree) else "no loss was logged"
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


KIND = Kind(name="overview", summary="one page for one run", of_one=overview)

"""Loss and accuracy over steps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from gradscope.errors import UsageError
from gradscope.plots.axes.step_axis import format_steps
from gradscope.plots.axes.style import new_figure
from gradscope.plots.layouts.bands import draw_metric, has_metric, metric_label
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.losses import draw_losses, loss_key, recorded_losses
from gradscope.plots.layouts.panels import one_legend
from gradscope.plots.layouts.run_names import name_conditions
from gradscope.plots.layouts.view import Picture, View, as_table, run_title

PANELS = {"loss": ("train_loss", "val_loss"), "accuracy": ("train_accuracy", "val_accuracy")}
"""Metrics that share a panel: training dashed, validation solid."""
MAX_POINTS = 200
"""Of a training loss beside evaluations, or of many runs."""


def curves(tree: xr.DataTree, view: View) -> Picture:
    """Draw loss and accuracy over steps, one colour per condition, with 95 % bands over seeds.

    Training and validation share a panel; a training loss that was not evaluated is that of the
    steps. Without an evaluation, the training loss alone.
    """
    panels = {
        title: [name for name in metrics if has_metric(tree, name)]
        for title, metrics in PANELS.items()
    }
    if panels["loss"] == ["val_loss"] and _has_training_loss(tree):
        panels["loss"] = ["train_loss", "val_loss"]
    panels = {title: metrics for title, metrics in panels.items() if metrics}
    if not panels:
        return _training_loss(tree, view)
    shown = [metric for metrics in panels.values() for metric in metrics]
    tables = [_read(tree, metric) for metric in shown]
    if "run" in tree.dims:
        tables = name_conditions(tree, *tables)
    else:
        tables = [table.assign(**{"run is": run_title(tree)}) for table in tables]
    table_of = dict(zip(shown, tables, strict=True))
    figure = new_figure(view.page_mm, 0.36 * view.page_mm)
    for number, (title, metrics) in enumerate(panels.items()):
        ax = figure.add_subplot(1, len(panels), number + 1)
        for metric in metrics:
            draw_metric(table_of[metric], metric, ax=ax, is_dashed=metric != metrics[-1])
        unit = metric_label(metrics[0]).partition(" (")[2]
        ax.set_ylabel(f"{title} ({unit}" if unit else title)
        words = [metric.partition("_")[0] for metric in metrics]
        ax.set_title(f"dashed {words[0]}, solid {words[1]}" if len(words) > 1 else words[0])
    one_legend(figure.axes)
    parts = [t.rename(columns={m: "value"}).assign(metric=m) for m, t in table_of.items()]
    data = pd.concat(parts, ignore_index=True)
    return Picture(figure, data, f"{', '.join(shown)} over steps. {run_title(tree)}")


def _read(tree: xr.DataTree, metric: str) -> pd.DataFrame:
    """Return a metric as a table; a training loss that was not evaluated is that of the steps."""
    if has_metric(tree, metric):
        return as_table(tree["evaluation"].dataset[metric].load()).dropna()
    return _thinned(as_table(tree["training"].dataset["loss"].load()).dropna(), "loss").rename(
        columns={"loss": metric}
    )


def _thinned(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Average the values of many steps in intervals that are the same for all runs."""
    steps = np.unique(table["step"])
    if len(steps) <= MAX_POINTS:
        return table
    parts = np.array_split(steps, MAX_POINTS)
    middle = np.concatenate([np.full(len(part), round(part.mean())) for part in parts])
    table = table.assign(step=middle[np.searchsorted(steps, table["step"])])
    keys = [column for column in table.columns if column != name]
    return table.groupby(keys, sort=False, as_index=False)[name].mean()


def _has_training_loss(tree: xr.DataTree) -> bool:
    training = tree.children.get("training")
    known = training is not None and training.dataset.get("loss")
    return isinstance(known, xr.DataArray) and bool(np.isfinite(known.values).any())


def _training_loss(tree: xr.DataTree, view: View) -> Picture:
    """Draw the training loss where nothing was evaluated."""
    is_one = "run" not in tree.dims
    losses = recorded_losses(tree) if is_one else {}
    if not (_has_training_loss(tree) or any(np.isfinite(loss).any() for loss in losses.values())):
        if losses:
            raise UsageError("the training loss is nowhere finite, and nothing was evaluated")
        raise UsageError("this recording has neither a training loss nor an evaluated metric")
    losses = {name: loss for name, loss in losses.items() if not np.isnan(loss.values).all()}
    room, title = 0.8 * view.width_mm, view.titled(run_title(tree))
    key_mm = loss_key(losses, room, view.magnification).height_mm
    figure = new_figure(view.width_mm, 0.6 * view.width_mm + key_mm)
    ax = figure.add_subplot()
    draw_losses(losses, ax=ax, room_mm=room, size=view.magnification, title=title)
    if is_one:
        tables = [as_table(loss.rename("loss")).assign(of=name) for name, loss in losses.items()]
        table = pd.concat(tables, ignore_index=True).dropna()
        format_steps(ax, is_log=False)
    else:
        table = _thinned(as_table(tree["training"].dataset["loss"].load()).dropna(), "loss")
        (table,) = name_conditions(tree, table)
        draw_metric(table, "loss", ax=ax)
        one_legend(figure.axes)
    return Picture(figure, table, f"Training loss over steps. {run_title(tree)}")


KIND = Kind(
    name="curves",
    summary="loss and accuracy over steps",
    of_one=curves,
    of_many=curves,
    groups=("training", "evaluation"),
    steps="union",  # to the end of each run, also beside one that was killed early
)

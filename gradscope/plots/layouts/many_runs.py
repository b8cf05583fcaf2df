"""Layouts of many recordings: maps side by side, bands over seeds, outcome against alpha."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from gradscope.errors import UsageError, unknown
from gradscope.plots.axes.labels import quantity_label
from gradscope.plots.axes.scales import declared_kind, scale_of
from gradscope.plots.axes.style import new_figure
from gradscope.plots.draw.heatmap import draw_heatmap, draw_key
from gradscope.plots.draw.outcomes import draw_alpha, draw_alpha_map, draw_bands, draw_metric
from gradscope.plots.draw.profile import profile_steps
from gradscope.plots.layouts.one_run import FRAME_MM, map_height
from gradscope.plots.layouts.run_names import conditions, last_values
from gradscope.plots.layouts.view import Picture, View, as_table, describe, read_rows, run_title

OUTCOMES = ("test_accuracy", "val_accuracy", "test_loss", "val_loss", "train_loss")
MAX_MAPS = 6


def heatmaps(tree: xr.DataTree, view: View) -> Picture:
    """Maps side by side with one colour scale, each under what makes its run different."""
    data = read_rows(tree, view)
    names = conditions(tree, with_seed=True)
    if len(names) > MAX_MAPS:
        raise UsageError(f"at most {MAX_MAPS} maps fit side by side; got {len(names)} recordings")
    height = map_height(data.isel(run=0), view) + FRAME_MM * view.magnification
    figure = new_figure(view.width_mm, height)
    ratios = [1.0] * len(names) + [0.05]
    *axes, cax = figure.subplots(1, len(names) + 1, width_ratios=ratios, squeeze=False)[0]
    scale = scale_of(data.values, declared_kind(data))
    for number, (ax, name) in enumerate(zip(axes, names, strict=True)):
        one = data.isel(run=number)
        one = one.isel(step=~np.isnan(one.values).all(axis=1)) if np.isfinite(one).any() else one
        drawn = draw_heatmap(one, ax=ax, scale=scale, step_scale=view.step_scale, has_key=False)
        ax.set_title(view.titled(name, n_panels=len(names)))
        if number:
            ax.set_ylabel("")
            ax.tick_params(axis="y", which="both", labelleft=False)
    draw_key(drawn.mesh, data, scale, ax=axes[-1], cax=cax)
    words = f"Heatmaps of {len(names)} runs ({'; '.join(names)})"
    return Picture(figure, as_table(data), describe(data.isel(run=0), words, run_title(tree)))


def profiles(tree: xr.DataTree, view: View) -> Picture:
    """Against depth at three steps, a colour a condition, with 95 % bands over seeds."""
    data = read_rows(tree, view)
    steps = profile_steps(data["step"].values)[
        [0, len(profile_steps(data["step"].values)) // 2, -1]
    ]
    table = as_table(data.sel(step=np.unique(steps)))
    dim = str(table.columns[2])
    places = {name: place for place, name in enumerate(data[dim].values.tolist())}
    table["depth"] = table[dim].map(places)
    table["run is"] = table["run"].map(_by_run(tree))
    figure = new_figure(view.width_mm, 0.45 * view.width_mm)
    axes = figure.subplots(1, len(np.unique(steps)), sharey=True, squeeze=False)[0]
    for ax, step in zip(axes, np.unique(steps), strict=True):
        part = table[table["step"] == step]
        draw_bands(
            part,
            "depth",
            str(data.name),
            ax=ax,
            label=quantity_label(data),
            scale=scale_of(data.values, declared_kind(data)),
        )
        ax.set_title(f"step {step:,}")
        ax.set_xlabel("row in network order")
    _one_legend(figure.axes)
    return Picture(figure, table, describe(data.isel(run=0), "Profiles", run_title(tree)))


def curves(tree: xr.DataTree, view: View) -> Picture:
    """Loss and accuracy over steps, a colour a condition, with 95 % bands over seeds."""
    is_many = "run" in tree.dims
    names = _by_run(tree) if is_many else None
    tables = []
    chosen = [name for name in ("train_loss", "val_loss", "val_accuracy") if _has(tree, name)]
    if not chosen:
        raise UsageError(
            "this recording has no evaluation to draw: no train_, val_ or test_ metric. "
            "The training loss stands above the map of `--kind heatmap`"
        )
    figure = new_figure(view.width_mm, 0.42 * view.width_mm)
    for number, name in enumerate(chosen):
        ax = figure.add_subplot(1, len(chosen), number + 1)
        table = as_table(tree["evaluation"].dataset[name].load()).dropna()
        table["run is"] = table["run"].map(names) if names else run_title(tree)
        draw_metric(table, name, ax=ax)
        tables.append(table.rename(columns={name: "value"}).assign(metric=name))
    _one_legend(figure.axes)
    data = pd.concat(tables, ignore_index=True)
    return Picture(figure, data, f"{', '.join(chosen)} over steps. {run_title(tree)}")


def alpha(tree: xr.DataTree, view: View) -> Picture:
    """The last outcome against alpha by arm, and, where lr varies too, the map of alpha and lr."""
    if "run" not in tree.dims:
        raise UsageError("`alpha` compares runs: give the recordings of a sweep")
    known = [name for name in OUTCOMES if _has(tree, name)]
    metric = view.quantity if view.quantity != View().quantity else next(iter(known), "")
    if metric not in known:
        raise UsageError(unknown("outcome", metric, known))
    table = last_values(tree, metric)
    lrs = table["lr"].nunique() if "lr" in table else 1
    has_map = lrs > 1 and table["alpha"].nunique() > 1
    figure = new_figure(view.width_mm, (0.42 if has_map else 0.65) * view.width_mm)
    axes = figure.subplots(1, 2 if has_map else 1, squeeze=False)[0]
    draw_alpha(table, metric, ax=axes[0])
    if has_map:
        draw_alpha_map(table, metric, ax=axes[1])
    words = f"Last {metric} against alpha over {len(table)} runs. {run_title(tree)}"
    return Picture(figure, table, words)


def _has(tree: xr.DataTree, name: str) -> bool:
    node = tree.children.get("evaluation")
    return node is not None and name in node.data_vars and bool(node.dataset[name].notnull().any())


def _by_run(tree: xr.DataTree) -> dict[str, str]:
    return dict(zip(tree.dataset["run"].values.tolist(), conditions(tree), strict=True))


def _one_legend(axes: list) -> None:
    """Keep the legend of the last panel, beside it."""
    for ax in axes:
        legend = ax.get_legend()
        if legend is not None and ax is not axes[-1]:
            legend.remove()
        elif legend is not None:
            legend.set_loc("center left")
            legend.set_bbox_to_anchor((1.02, 0.5))

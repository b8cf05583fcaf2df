"""Outcome against alpha, and the map of alpha and learning rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from gradscope.errors import UsageError, unknown
from gradscope.plots.axes.scales import plain_number, signed
from gradscope.plots.axes.style import new_figure
from gradscope.plots.layouts.bands import cut_share, has_metric, metric_label, palette, t_interval
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.run_names import last_values
from gradscope.plots.layouts.view import Picture, View, run_title

OUTCOMES = ("test_accuracy", "val_accuracy", "test_loss", "val_loss", "train_loss")


def draw_alpha(table: pd.DataFrame, metric: str, *, ax: Axes) -> None:
    """Draw an outcome against alpha, one colour per arm (or learning rate) and a dot per run.

    Lines join means over seeds, bars are their 95 % t intervals, from three seeds on.
    """
    import seaborn as sns  # loads most of SciPy, which other plots do not need

    hue = next(
        (name for name in ("arm", "lr") if name in table and table[name].nunique() > 1), None
    )
    colors = palette(table[hue].nunique()) if hue else None
    common = {"x": "alpha", "y": metric, "hue": hue, "palette": colors, "ax": ax}
    sns.lineplot(table, marker="o", err_style="bars", errorbar=t_interval, **common)
    sns.scatterplot(table, legend=False, s=6, alpha=0.5, linewidth=0, **common)
    ax.set_xlabel("α")
    if table["alpha"].nunique() <= 7:
        alphas = np.unique(table["alpha"])
        ax.set_xticks(alphas, [signed(alpha) for alpha in alphas])
    ax.set_ylabel(metric_label(metric))
    cut_share(ax, metric)
    ax.axvline(0, color="0.7", linewidth=0.5, zorder=0)
    if hue:
        ax.legend(title=hue, title_fontsize="small")


def draw_alpha_map(table: pd.DataFrame, metric: str, *, ax: Axes) -> None:
    """Draw the mean outcome over alpha and lr, and a ring at the best lr of each alpha.

    A cell that no run fills is hatched.
    """
    grid = table.pivot_table(index="lr", columns="alpha", values=metric, aggfunc="mean")
    mesh = ax.pcolormesh(np.ma.masked_invalid(grid.values), rasterized=True)
    ax.patch.set(facecolor="0.92", hatch="//////", edgecolor="0.72")
    merit = grid.values * (-1.0 if metric.endswith("_loss") else 1.0)
    known = np.flatnonzero(np.isfinite(merit).any(axis=0))
    ax.plot(
        known + 0.5,
        np.nanargmax(merit[:, known], axis=0) + 0.5,
        "o",
        mfc="none",
        mec="white",
        markersize=6,
        path_effects=[withStroke(linewidth=2, foreground="black")],
        label="best lr of each α",
    )
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1.01), facecolor="0.6")
    ax.set_xticks(np.arange(grid.shape[1]) + 0.5, [signed(a) for a in grid.columns])
    ax.set_yticks(np.arange(grid.shape[0]) + 0.5, [plain_number(lr) for lr in grid.index])
    ax.set_xlabel("α")
    ax.set_ylabel("lr")
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(mesh, ax=ax, label=metric_label(metric))


def alpha(tree: xr.DataTree, view: View) -> Picture:
    """Draw the last outcome against alpha, and its map over alpha and lr if lr varies too."""
    known = [name for name in OUTCOMES if has_metric(tree, name)]
    metric = view.quantity if view.quantity != View().quantity else next(iter(known), "")
    if not known:
        raise UsageError(f"these recordings have none of {', '.join(OUTCOMES)}")
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


KIND = Kind(
    name="alpha",
    summary="final outcome against alpha, and its map over alpha and learning rate",
    of_many=alpha,
    groups=("training", "evaluation"),
    steps="union",  # each run counts as it ended, also beside one that was killed early
)

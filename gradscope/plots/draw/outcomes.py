"""Outcomes over runs: points with intervals over seeds (seaborn), and the map of alpha and lr."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from gradscope import schema
from gradscope.plots.axes.scales import Scale, format_values, plain_number, signed
from gradscope.plots.axes.step_axis import format_steps

INTERVAL = {"errorbar": ("ci", 95), "n_boot": 500, "seed": 0}
"""Seeded percentile bootstrap over runs; a single run gets no band."""


def draw_bands(
    table: pd.DataFrame, x: str, y: str, *, ax: Axes, label: str, scale: Scale | None = None
) -> None:
    """Draw the mean over runs of each condition (column ``run is``) with its 95 % interval.

    On a logarithmic axis means are geometric.
    """
    if scale is not None and scale.kind == "log":
        ax.set_yscale("log")
        table = table[table[y] > 0]
    n_conditions = table["run is"].nunique()
    sns.lineplot(table, x=x, y=y, hue="run is", ax=ax, palette=palette(n_conditions), **INTERVAL)
    if scale is not None:
        format_values(ax.yaxis, scale)
    ax.set_ylabel(label)
    legend = ax.get_legend()
    if legend is not None:
        legend.set_title("")
        if n_conditions == 1:
            legend.remove()


def palette(n_colors: int) -> list:
    """Return the colour-blind safe cycle, or an even ramp where there are more conditions."""
    return sns.color_palette(None if n_colors <= 7 else "viridis", n_colors)


def draw_metric(table: pd.DataFrame, metric: str, *, ax: Axes) -> None:
    """Draw a metric over steps by condition; losses over many factors on a log axis."""
    values = table[metric]
    is_log = is_drawn_log(metric, values.to_numpy())
    scale = Scale("log", float(values.min()), float(values.max())) if is_log else None
    draw_bands(table, "step", metric, ax=ax, label=metric_label(metric), scale=scale)
    format_steps(ax, is_log=False)


def is_drawn_log(metric: str, values: np.ndarray) -> bool:
    """Tell whether a metric needs a log axis: no share, positive, over a factor of 20 or more."""
    kind = schema.declaration(metric).scale
    is_share = kind == "share" or (kind == "auto" and values.max(initial=0) <= 1)
    return bool(not is_share and values.min() > 0 and values.max() > 20 * values.min())


def metric_label(metric: str) -> str:
    """Return the short name of a metric with its unit."""
    units = schema.declaration(metric).units
    return metric.replace("_", " ") + (f" ({units})" if units != "1" else "")


def draw_alpha(table: pd.DataFrame, metric: str, *, ax: Axes) -> None:
    """Draw an outcome against alpha, a colour an arm (else an lr), every run as a dot.

    Lines join means over seeds, bars are their 95 % intervals.
    """
    hue = next(
        (name for name in ("arm", "lr") if name in table and table[name].nunique() > 1), None
    )
    colors = palette(table[hue].nunique()) if hue else None
    common = {"x": "alpha", "y": metric, "hue": hue, "palette": colors, "ax": ax}
    sns.lineplot(table, marker="o", err_style="bars", **common, **INTERVAL)
    sns.scatterplot(table, legend=False, s=6, alpha=0.5, linewidth=0, **common)
    ax.set_xlabel("α")
    if table["alpha"].nunique() <= 7:
        ax.set_xticks(np.unique(table["alpha"]))
    ax.set_ylabel(metric_label(metric))
    ax.axvline(0, color="0.7", linewidth=0.5, zorder=0)
    if hue:
        ax.legend(title=hue, title_fontsize="small")


def draw_alpha_map(table: pd.DataFrame, metric: str, *, ax: Axes) -> None:
    """Draw the mean outcome over alpha and lr; a cell that no run fills is hatched."""
    grid = table.pivot_table(index="lr", columns="alpha", values=metric, aggfunc="mean")
    mesh = ax.pcolormesh(np.ma.masked_invalid(grid.values), rasterized=True)
    ax.patch.set(facecolor="0.92", hatch="//////", edgecolor="0.72")
    ax.set_xticks(np.arange(grid.shape[1]) + 0.5, [signed(a) for a in grid.columns])
    ax.set_yticks(np.arange(grid.shape[0]) + 0.5, [plain_number(lr) for lr in grid.index])
    ax.set_xlabel("α")
    ax.set_ylabel("lr")
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(mesh, ax=ax, label=metric_label(metric))

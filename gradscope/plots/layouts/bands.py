"""Curves of metrics with intervals over seeds (seaborn)."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from gradscope import schema
from gradscope.plots.axes.scales import Scale, format_values
from gradscope.plots.axes.step_axis import format_steps

LEAST_RUNS = 3
"""Of two runs the interval is 9 standard deviations wide to each side, and hides the curve."""


def t_interval(values: pd.Series) -> tuple[float, float]:
    """Return the 95 % interval of a mean by Student's t; NaN below `LEAST_RUNS` values.

    For ``errorbar`` of seaborn, which gives the logarithms where the axis is logarithmic.

    >>> low, high = t_interval(pd.Series([1.0, 2.0, 3.0]))
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    from gradscope.stats.intervals.student_t import student_t_mean  # loads SciPy, as seaborn does

    if len(values) < LEAST_RUNS:
        return np.nan, np.nan
    interval = student_t_mean(values)
    return interval.low, interval.high


def draw_bands(
    table: pd.DataFrame,
    x: str,
    y: str,
    *,
    ax: Axes,
    label: str,
    scale: Scale | None = None,
    is_dashed: bool = False,
) -> None:
    """Draw the mean over runs of each condition (column ``run is``) with its 95 % t interval.

    One or two runs have no band. On a logarithmic axis means are geometric. Where the column is
    categorical, a condition has the same colour and its place in the legend in each panel, also
    where it has no values.
    """
    import seaborn as sns  # loads most of SciPy, which other plots do not need

    if scale is not None and scale.kind == "log":
        ax.set_yscale("log")
        table = table[table[y] > 0]
    named = table["run is"]
    is_categorical = isinstance(named.dtype, pd.CategoricalDtype)
    n_conditions = len(named.cat.categories) if is_categorical else named.nunique()
    sns.lineplot(
        table,
        x=x,
        y=y,
        hue="run is",
        ax=ax,
        palette=palette(n_conditions),
        linestyle="--" if is_dashed else "-",
        legend=not is_dashed,
        errorbar=t_interval,
    )
    if scale is not None:
        format_values(ax.yaxis, scale)
    ax.set_ylabel(label)
    legend = ax.get_legend()
    if legend is not None:
        legend.set_title("")
        if n_conditions == 1:
            legend.remove()


def palette(n_colors: int) -> list[tuple[float, ...]]:
    """Return the colour-blind safe cycle, or an even ramp where there are more conditions."""
    if n_colors <= 7:
        return [to_rgb(f"C{i}") for i in range(n_colors)]
    ramp = mpl.colormaps["viridis"](np.linspace(0, 1, n_colors + 2)[1:-1])
    return [to_rgb(color) for color in ramp]


def draw_metric(table: pd.DataFrame, metric: str, *, ax: Axes, is_dashed: bool = False) -> None:
    """Draw a metric over steps by condition; losses over many factors on a log axis."""
    values = table[metric]
    is_log = is_drawn_log(metric, values.to_numpy())
    scale = Scale("log", float(values.min()), float(values.max())) if is_log else None
    draw_bands(
        table, "step", metric, ax=ax, label=metric_label(metric), scale=scale, is_dashed=is_dashed
    )
    format_steps(ax, is_log=False)
    cut_share(ax, metric)


def cut_share(ax: Axes, metric: str) -> None:
    """End the axis of a share near 0 and 1, which the interval of few runs may cross."""
    if schema.declaration(metric).scale == "share":
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -0.02), min(high, 1.02), auto=None)


def is_drawn_log(metric: str, values: np.ndarray) -> bool:
    """Tell whether a metric needs a log axis: no share, positive, over a factor of 20 or more."""
    kind = schema.declaration(metric).scale
    is_share = kind == "share" or (kind == "auto" and values.max(initial=0) <= 1)
    return bool(not is_share and values.min() > 0 and values.max() > 20 * values.min())


def metric_label(metric: str) -> str:
    """Return the short name of a metric with its unit."""
    units = schema.declaration(metric).units
    return metric.replace("_", " ") + (f" ({units})" if units != "1" else "")


def has_metric(tree: xr.DataTree, name: str) -> bool:
    """Tell whether a recording has any value of an evaluated metric."""
    node = tree.children.get("evaluation")
    return node is not None and name in node.data_vars and bool(node.dataset[name].notnull().any())

"""Distribution of effective learning rates within a layer for several alphas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradscope.errors import UsageError
from gradscope.plots.axes.scales import Scale, format_values, signed
from gradscope.plots.axes.style import new_figure
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.panels import read_histogram
from gradscope.plots.layouts.view import Picture, View, as_table, run_title


def draw_effective_lr(
    counts: xr.DataArray, *, lr: float, alphas: Sequence[float], ax: Axes | None = None
) -> list[Line2D]:
    """Draw the distribution of ``lr / v^alpha`` over entries, one line per alpha.

    Parameters
    ----------
    counts : DataArray, dims (moment_bin,)
        Entries with ``2^b <= v < 2^(b + 1)``; each is taken at the middle of its octave, so that a
        line is exact to half an octave times abs(alpha).
    lr : float
        The learning rate that is divided.
    alphas : sequence of float
        Exponents. At 0 every entry has the same rate.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    list of Line2D
        Share of entries per factor of ten, so that lines of different width have equal area.
    """
    ax = Figure(layout="constrained").add_subplot() if ax is None else ax
    bins = counts["moment_bin"].values.astype(float)
    used = counts.values > 0
    shares = counts.values[used] / counts.values.sum()
    lines = []
    for number, alpha in enumerate(alphas):
        rate = lr * 2.0 ** (-alpha * (bins[used] + 0.5))
        label = f"α = {signed(alpha)}"
        color = f"C{number}"
        if alpha == 0:
            lines.append(ax.axvline(lr, color=color, label=label))
            continue
        density = shares / (abs(alpha) * np.log10(2))
        lines += ax.plot(rate, density, color=color, label=label, drawstyle="steps-mid")
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    format_values(ax.xaxis, Scale("log", low, high))
    ax.set_ylim(bottom=0)
    ax.set_xlabel("lr / v$^α$")
    ax.set_ylabel("share of entries per factor of ten")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return lines


def effective_lr(tree: xr.DataTree, view: View) -> Picture:
    """Draw the effective learning rates of several alphas at the last recorded step."""
    counts = read_histogram(tree, "exp_avg_sq_histogram", view).isel(step=-1).sum("param")
    if not counts.sum():
        raise UsageError(f"no second moment is finite and above zero at step {int(counts['step'])}")
    step = int(counts["step"])
    lr = _last_lr(tree, step)
    figure = new_figure(view.width_mm, min(0.65 * view.width_mm, 90.0 * view.magnification))
    ax = figure.add_subplot()
    ax.set_title(view.titled(f"{run_title(tree)} · step {step:,}"))
    draw_effective_lr(counts, lr=lr, alphas=view.alphas, ax=ax)
    words = ", ".join(f"{alpha:g}" for alpha in view.alphas)
    return Picture(
        figure, as_table(counts), f"Distribution of lr / v^alpha at step {step} for alpha {words}."
    )


def _last_lr(tree: xr.DataTree, step: int) -> float:
    """Return the largest learning rate of the last row at or before a step that has any."""
    if "training" not in tree.children or "lr" not in tree["training"].data_vars:
        raise UsageError(
            "this recording has no `lr`, which is divided: record the group `training`"
        )
    rows = tree["training"].dataset["lr"].sel(step=slice(None, step)).load()
    known = rows.dropna("step", how="all")
    if not known.sizes["step"]:
        raise UsageError(f"no learning rate is known at step {step} or before")
    return float(known.isel(step=-1).max())


KIND = Kind(
    name="effective-lr",
    summary="distribution of the effective learning rate, for several exponents",
    of_one=effective_lr,
)

"""Equilibrium: update ratio against gradient, and deviation of its slope from the prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import letter
from figures.parts.results import DATA
from gradscope.plots.axes.scales import signed
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/accumulation_bias/cpu"
INPUTS = tuple(
    f"{FOLDER}/{name}.csv" for name in ("equilibrium", "equilibrium_layers", "balance_means")
)
CAPTION = (
    "Equilibrium of weight decay and updates in plain batch-norm networks, scale cpu. a, Update "
    "ratio against RMS gradient of each scale-invariant weight; both are root mean squares over "
    "the second half of the run, averaged over seeds. Lines have the predicted slope (0 with "
    "decoupled decay, −α with coupled decay) and pass through the mean. b, Measured minus "
    "predicted slope. Dots are seeds; large marks are means with 95 % t intervals. The grey band "
    "is the margin of claim P2 (0.03). c, Drift of the squared norm of the weight farthest from "
    "equilibrium, relative to the rate of decay: 0 in equilibrium, −1 if weights decay without "
    "updates. Runs outside the grey band are not in equilibrium."
)
MARKS = {"decoupled": "o", "coupled": "s"}
MARGIN = 0.03
DRIFT_ALLOWED = 0.25


def draw() -> Figure:
    """Draw layers beside deviations."""
    runs, layers, means = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 70)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.3, 1, 0.8])
    colors = {alpha: f"C{number}" for number, alpha in enumerate(sorted(runs["alpha"].unique()))}
    draw_layers(layers, colors, ax=left)
    draw_deviations(runs, means, colors, ax=middle)
    draw_drifts(runs, means, colors, ax=right)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    letter([left, middle, right])
    return figure


def draw_layers(layers: pd.DataFrame, colors: dict[float, str], *, ax: Axes) -> None:
    """Scatter the layers of each kind of run, with a line of the predicted slope."""
    table = layers.assign(x=np.log(layers["grad_rms"]), y=np.log(layers["update_ratio"]))
    for (decay, alpha), own in table.groupby(["decay", "alpha"]):
        mean = own.groupby("layer")[["x", "y"]].mean()
        slope = 0.0 if decay == "decoupled" else -alpha
        filled = colors[alpha] if decay == "decoupled" else "none"
        ax.plot(
            mean["x"],
            mean["y"],
            MARKS[decay],
            color=colors[alpha],
            mfc=filled,
            label=f"{decay}, α = {signed(alpha)}",
        )
        ends = np.array([mean["x"].min(), mean["x"].max()])
        line = mean["y"].mean() + slope * (ends - mean["x"].mean())
        ax.plot(ends, line, color=colors[alpha], linewidth=0.6)
    ax.set_xlabel("ln RMS gradient")
    ax.set_ylabel("ln update ratio")


def draw_deviations(
    runs: pd.DataFrame, means: pd.DataFrame, colors: dict[float, str], *, ax: Axes
) -> None:
    """Draw every seed's deviation, the mean and its interval, by kind of run."""
    kinds = means.sort_values(["decay", "alpha"])
    for place, row in enumerate(kinds.itertuples()):
        is_own = (runs["decay"] == row.decay) & (runs["alpha"] == row.alpha)
        values, color = runs.loc[is_own, "deviation"], colors[row.alpha]
        ax.plot(values, np.full(len(values), place + 0.18), ".", color=color, alpha=0.5)
        bars = [[row.mean - row.low], [row.high - row.mean]]
        filled = color if row.decay == "decoupled" else "white"
        mark = MARKS[row.decay]
        ax.errorbar(row.mean, place, xerr=bars, fmt=mark, color=color, mfc=filled, capsize=2)
    names = [f"{row.decay}, {signed(row.alpha)}" for row in kinds.itertuples()]
    ax.set_yticks(range(len(names)), names)
    ax.axvspan(-MARGIN, MARGIN, color="0.9", zorder=0)
    ax.axvline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set_xlabel("measured minus predicted slope")
    ax.set_ylabel("decay, α")


def draw_drifts(
    runs: pd.DataFrame, means: pd.DataFrame, colors: dict[float, str], *, ax: Axes
) -> None:
    """Draw every seed's drift, by kind of run, in the order of the deviations."""
    for place, row in enumerate(means.sort_values(["decay", "alpha"]).itertuples()):
        own = runs[(runs["decay"] == row.decay) & (runs["alpha"] == row.alpha)]
        ax.plot(own["drift"], np.full(len(own), place), ".", color=colors[row.alpha], alpha=0.5)
    ax.axvspan(-DRIFT_ALLOWED, DRIFT_ALLOWED, color="0.9", zorder=0)
    ax.margins(x=0.15)
    left, right = ax.get_xlim()
    ax.set_xlim(min(left, -1.4 * DRIFT_ALLOWED), max(right, 1.4 * DRIFT_ALLOWED))
    ax.set_yticks([])
    ax.set_xlabel("drift over rate of decay")

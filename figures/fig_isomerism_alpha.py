"""Best alpha on data with few and with many classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/dataset_isomerism/cpu"
INPUTS = (f"{FOLDER}/tuned_means.csv", f"{FOLDER}/best_alpha.csv")
CAPTION = (
    "Tuned accuracy over alpha, scale cpu: a plain net (4 hidden layers of 64 units, ReLU, batch "
    "norm) on 400 synthetic images in 4, 10 and 40 classes, 100 steps, 8 seeds, learning rate "
    "tuned for each alpha and data set with one budget; accuracy is decided at full scale only. "
    "Above: means with 95 % t intervals, and the parabola through the means. Below: its vertex "
    "with the 95 % bootstrap interval over seeds; open where it is not identified (more than 5 % "
    "of resampled fits are not concave, or the interval touches an end of the range)."
)


def draw() -> Figure:
    """Draw a panel for each data set, and the vertices below."""
    tuned, best = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 72)
    grid = figure.add_gridspec(2, len(best), height_ratios=[1.7, 1])
    above = [figure.add_subplot(grid[0, place]) for place in range(len(best))]
    for ax, data in zip(above, best["data"], strict=True):
        draw_curve(tuned[tuned["data"] == data], ax=ax)
        ax.set_title(data)
    above[0].set_ylabel("test accuracy")
    below = figure.add_subplot(grid[1, :])
    draw_vertices(best, ax=below)
    below.set_xlim(tuned["alpha"].min() - 0.02, tuned["alpha"].max() + 0.02)
    letter([*above, below])
    return figure


def draw_curve(means: pd.DataFrame, *, ax: Axes) -> None:
    """Draw means and intervals, and the parabola through the means."""
    draw_means(means, "alpha", ax=ax, fmt="o", color="C0")
    places = np.linspace(means["alpha"].min(), means["alpha"].max(), 100)
    ax.plot(places, np.polyval(np.polyfit(means["alpha"], means["mean"], 2), places), color="0.5")
    ax.set_xlabel("alpha")


def draw_vertices(best: pd.DataFrame, *, ax: Axes) -> None:
    """Draw each vertex with its interval."""
    for place, row in enumerate(best.itertuples()):
        bars = [[row.alpha - row.low], [row.high - row.alpha]]
        ax.errorbar(
            row.alpha,
            place,
            xerr=bars,
            fmt="o",
            color="C0",
            capsize=2,
            mfc="C0" if row.is_identified else "white",
        )
    ax.set_yticks(range(len(best)), best["data"])
    ax.set_ylim(len(best) - 0.5, -0.5)
    ax.set_xlabel("best alpha")

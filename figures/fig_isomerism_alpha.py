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
    "Tuned test accuracy against α on data with 4, 10 and 40 classes, scale cpu. Plain network (4 "
    "hidden layers of 64 units, ReLU, batch norm), 400 synthetic images, 100 steps, 8 seeds; "
    "learning rate tuned for each α and data set with the same budget. Claims about accuracy are "
    "decided at full scale only. a to c, Means with 95 % t intervals, and the parabola fitted to "
    "the means. d, Vertex of the parabola within the range of α, with its 95 % bootstrap interval "
    "over seeds. An open mark is not identified: more than 5 % of the resampled fits are not "
    "concave, or the interval touches an end of the range."
)


def draw() -> Figure:
    """Draw a panel for each data set, and the vertices beside them."""
    tuned, best = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 50)
    *curves, last = figure.subplots(1, len(best) + 1, width_ratios=[1] * len(best) + [0.9])
    for ax, data in zip(curves, best["data"], strict=True):
        draw_curve(tuned[tuned["data"] == data], ax=ax)
        ax.set_title(data)
    curves[0].set_ylabel("test accuracy")
    draw_vertices(best, ax=last)
    last.set_title("vertex of the parabola")
    last.set_xlim(tuned["alpha"].min() - 0.05, tuned["alpha"].max() + 0.05)
    letter([*curves, last])
    return figure


def draw_curve(means: pd.DataFrame, *, ax: Axes) -> None:
    """Draw means and intervals, and the parabola through the means."""
    draw_means(means, "alpha", ax=ax, fmt="o", color="C0")
    places = np.linspace(means["alpha"].min(), means["alpha"].max(), 100)
    ax.plot(places, np.polyval(np.polyfit(means["alpha"], means["mean"], 2), places), color="0.5")
    ax.set_xlabel("α")


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
    for name, filled in (("identified", "C0"), ("not identified", "white")):
        if (best["is_identified"] == (name == "identified")).any():
            ax.plot([], [], "o", color="C0", mfc=filled, label=name)
    ax.legend(loc="lower left")
    ax.set_xlabel("best α")

"""Early share of descent, speed of fitting and generalisation gap over alpha."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.scales import signed
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/balance/cpu"
INPUTS = tuple(f"{FOLDER}/{name}.csv" for name in ("share_means", "speed_means", "gap_means"))
CAPTION = (
    "Possible mechanisms of α, exploratory, digits, scale cpu. Points are means and bars 95 % t "
    "intervals over seeds; in c and d, levels are set apart. a, b, Share of the first third of "
    "the weight layers in the descent of the loss (a) and in the turning of the weights (b), from "
    "equilibrium age 3 on, when decay has erased the initial weights; in runs that ended younger "
    "(all with tanh, and ReLU at α = 0.2) over the second half of the steps. Plain networks of 9 "
    "hidden layers with ReLU and batch norm, or with tanh, for which the slope of the gradient "
    "was to be reversed; measured in these steps it is not. c, Steps of a narrow VGG13 until the "
    "training loss, relative to ln(number of classes), reaches the level; learning rate tuned for "
    "this. Runs that did not reach the level count with all their steps. d, Validation loss minus "
    "training loss at equal training loss, tuned for accuracy. A value of α at which no run "
    "reached the level has no mark."
)
NETS = {"relu": "ReLU, batch norm", "tanh": "tanh"}


def draw() -> Figure:
    """Draw shares, speed and gap over alpha."""
    shares, speed, gaps = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 55)
    axes = figure.subplots(1, 4)
    for ax, quantity in zip(axes, ("descent", "turning"), strict=False):
        draw_shares(shares[shares["quantity"] == quantity], ax=ax)
        ax.set_title(f"first third's share of {quantity}")
    draw_levels(speed, ax=axes[2])
    axes[2].set_title("steps to a training loss")
    draw_levels(gaps, ax=axes[3])
    axes[3].set_title("generalisation gap (nat)")
    axes[0].legend()
    axes[2].set_ylim(top=1.25 * axes[2].get_ylim()[1])
    axes[2].legend(title="level", ncols=3, columnspacing=0.8, handletextpad=0.2)
    for ax in axes:
        ax.set_xlabel("α")
    letter(list(axes))
    return figure


def draw_shares(shares: pd.DataFrame, *, ax: Axes) -> None:
    """Draw the share of the early third, a line a net."""
    for number, (net, name) in enumerate(NETS.items()):
        own = shares[shares["activation"] == net]
        draw_means(own, "alpha", ax=ax, color=f"C{number}", label=name)
    ax.set_ylim(0, 1)


def draw_levels(means: pd.DataFrame, *, ax: Axes) -> None:
    """Draw means over alpha, a line a level of training loss."""
    for number, (level, own) in enumerate(means.groupby("level", sort=False)):
        color, shift = f"C{number + 2}", 0.025 * (number - 1)
        draw_means(own, "alpha", ax=ax, shift=shift, color=color, label=signed(level))

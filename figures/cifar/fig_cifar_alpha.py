"""The paper's first three experiments at scale mini: accuracy, steps and slopes over alpha."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/cifar/mini"
INPUTS = (f"{FOLDER}/outcome_means.csv", f"{FOLDER}/slope_means.csv")
CAPTION = (
    "Test accuracy, steps and gradients over α. VGG13 with 1/8 of its channels, all of CIFAR-10 "
    "and CIFAR-100, six epochs, scale mini, exploratory. Filled circles, one learning rate (0.3) "
    "for all α; open, the direction of α with the norm of α = 0's update. Means over five seeds; "
    "bars, 95 % t intervals, cut where a share or an axis ends. a, b, Test accuracy; shaded, the "
    "range in which the paper reports the optimum; triangles, learning rate and weight decay tuned "
    "for each α (three seeds, 2 to 4). c, Root mean square step of the weights at one "
    "learning rate, geometric mean over the first quarter of the steps. "
    "d, Depth slope of ln RMS output gradient over the last tenth of the steps, CIFAR-10; "
    "negative values mean that gradients grow toward the input."
)
SPECS = {"cifar10-alpha": "CIFAR-10", "cifar100-alpha": "CIFAR-100"}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "fixed": ("one learning rate", {"color": "C0"}),
    "grafted": ("step size of α = 0", {"color": "C1", "mfc": "white"}),
}
TUNED = "cifar10-tuned"
CLAIMED = (-0.3, 0.1)


def draw() -> Figure:
    """Draw accuracy on both data sets, measured steps and late depth slopes."""
    outcomes, slopes = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 100)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    for ax, (spec, name) in zip(axes, SPECS.items(), strict=False):
        own = outcomes[(outcomes["spec"] == spec) & (outcomes["quantity"] == "accuracy")].copy()
        own[["low", "high"]] = own[["low", "high"]].clip(0, 1)
        ax.axvspan(*CLAIMED, color="0.93", linewidth=0, zorder=0)
        draw_arms(own, ax=ax)
        ax.set_ylabel("test accuracy")
        ax.set_title(name)
    tuned = outcomes[(outcomes["spec"] == TUNED) & (outcomes["quantity"] == "accuracy")]
    draw_means(tuned, "alpha", ax=axes[0], label="tuned", fmt="^:", color="C2")
    draw_steps(outcomes, ax=axes[2])
    late = slopes[(slopes["phase"] == "last 10 %") & (slopes["quantity"] == "output_grad_rms")]
    late = late[late["spec"] == "cifar10-alpha"]
    draw_arms(late, ax=axes[3])
    span = late["mean"].max() - late["mean"].min()
    axes[3].set_ylim(late["mean"].min() - 0.5 * span, late["mean"].max() + 0.5 * span)
    axes[3].axhline(0, color="0.6", linewidth=0.5, zorder=0)
    axes[3].set_ylabel("depth slope (nat a layer)")
    axes[3].set_title("late gradient slope, CIFAR-10")
    for ax in axes[2:]:
        ax.set_xlabel("α")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    letter(list(axes))
    return figure


def draw_arms(rows: pd.DataFrame, *, ax: Axes) -> None:
    """Draw a value over alpha for both arms; alpha = 0 belongs to both."""
    for arm, (label, style) in ARMS.items():
        own = rows[(rows["arm"] == arm) | (rows["alpha"] == 0)]
        draw_means(own, "alpha", ax=ax, label=label, **style)


def draw_steps(outcomes: pd.DataFrame, *, ax: Axes) -> None:
    """Draw the measured step of the fixed arm, a line a data set."""
    own = outcomes[(outcomes["arm"] == "fixed") & (outcomes["quantity"] == "step")]
    for (spec, name), marker in zip(SPECS.items(), "os", strict=True):
        rows = own[own["spec"] == spec]
        draw_means(rows, "alpha", ax=ax, label=name, fmt=f"{marker}-", color="C0")
    ax.set_yscale("log")
    ax.set_ylabel("RMS step")
    ax.set_title("measured step at one learning rate")
    ax.legend()

"""Deeper networks and other labels of the same images over alpha, scale mini."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/cifar/mini"
INPUTS = (f"{FOLDER}/outcome_means.csv", f"{FOLDER}/slope_means.csv")
CAPTION = (
    "Depth of the network and labels of the images over α. VGG with 1/8 of its channels, all "
    "images, six epochs, scale mini, exploratory. CIFAR-10, means over five seeds (VGG13) and "
    "three (VGG16, VGG19); CIFAR-100, means over three seeds; bars, 95 % t intervals, cut where a "
    "share or an axis ends; marks are set apart. a, Test accuracy on CIFAR-10 at one learning "
    "rate (0.3). b, With the direction of α and the norm of α = 0's update. c, Test accuracy of "
    "VGG13 on CIFAR-100 with the norm of α = 0's update: 100 fine labels, 20 superclasses, or 20 "
    "groups of classes merged at random; dashed, guessing. d, Depth slope of ln RMS output "
    "gradient over the last tenth of the steps of the runs in c; negative values mean that "
    "gradients grow toward the input."
)
MODELS = {"vgg13": "VGG13", "vgg16": "VGG16", "vgg19": "VGG19"}
LABELS = {"fine": "fine", "coarse": "superclasses", "random": "random groups"}
GUESSING = (0.01, 0.05)


def draw() -> Figure:
    """Draw accuracy by network and by labels, and late depth slopes by labels."""
    outcomes, slopes = (pd.read_csv(DATA / path) for path in INPUTS)
    accuracy = outcomes[outcomes["quantity"] == "accuracy"].copy()
    accuracy[["low", "high"]] = accuracy[["low", "high"]].clip(0, 1)
    networks = accuracy[accuracy["spec"].isin(["cifar10-alpha", "cifar10-depth"])]
    alphas = networks.loc[networks["spec"] == "cifar10-depth", "alpha"]
    networks = networks[networks["alpha"].isin(alphas)]
    late = slopes[(slopes["phase"] == "last 10 %") & (slopes["quantity"] == "output_grad_rms")]
    figure = new_figure(WIDTHS_MM["page"], 105)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    for ax, arm, title in zip(
        axes, ("fixed", "grafted"), ("one learning rate", "step size of α = 0"), strict=False
    ):
        own = networks[(networks["arm"] == arm) | (networks["alpha"] == 0)]
        draw_groups(own, "model", MODELS, ax=ax)
        ax.set_title(f"CIFAR-10, {title}")
        ax.set_ylabel("test accuracy")
        ax.set_ylim(0, 1)
    draw_groups(accuracy[accuracy["spec"] == "cifar100-labels"], "labels", LABELS, ax=axes[2])
    for level in GUESSING:
        axes[2].axhline(level, color="0.6", linewidth=0.5, linestyle="--", zorder=0)
    axes[2].set_ylim(0, None)
    axes[2].set_ylabel("test accuracy")
    axes[2].set_title("CIFAR-100, step size of α = 0")
    draw_groups(late[late["spec"] == "cifar100-labels"], "labels", LABELS, ax=axes[3])
    axes[3].axhline(0, color="0.6", linewidth=0.5, zorder=0)
    axes[3].set_ylabel("depth slope (nat a layer)")
    axes[3].set_title("late gradient slope, CIFAR-100")
    for ax in axes[2:]:
        ax.set_xlabel("α")
        ax.set_xticks(sorted(set(alphas)))
    axes[0].legend(loc="lower center")
    axes[2].legend(loc="lower left", bbox_to_anchor=(0.0, 0.12), ncols=3)
    letter(list(axes))
    return figure


def draw_groups(rows: pd.DataFrame, column: str, names: dict[str, str], *, ax: Axes) -> None:
    """Draw means over alpha, a line and a mark a group."""
    for i, (key, name) in enumerate(names.items()):
        own = rows[rows[column] == key]
        draw_means(own, "alpha", ax=ax, shift=0.004 * (i - 1), label=name, fmt=f"{'osD'[i]}-")

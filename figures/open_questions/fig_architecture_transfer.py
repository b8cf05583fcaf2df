"""Architecture transfer: curves over alpha and depth slopes of five architectures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/architecture_transfer/cpu"
INPUTS = tuple(f"{FOLDER}/{name}.csv" for name in ("outcome_means", "order_means", "slope_means"))
CAPTION = (
    "Curves over α in five architectures: narrow VGG13, ResNet-14 with and without skips, an "
    "EfficientNet-like network and a vision transformer; digits, 100 steps, 3 seeds, scale cpu, "
    "exploratory. Points are means and bars 95 % t intervals over seeds, cut where the axis ends; "
    "marks are set apart. "
    "a, Test accuracy at one learning rate, for each architecture the best of its pilot at α = 0. "
    "b, Test accuracy with the direction of α and the global step size of α = 0. c, Rank "
    "correlation of a seed's curve with the mean curve over the other seeds: of VGG13 (filled) "
    "and of the architecture itself (open), which bounds what can be expected; one learning rate. "
    "d, Slope of ln RMS output gradient over the blocks of one resolution at α = 0, at the first "
    "step (filled) and over the second half of the steps (open); negative values mean that "
    "gradients grow toward the input."
)
NETS = {
    "vgg13": "VGG13",
    "resnet14": "ResNet-14",
    "resnet14 without skips": "no skips",
    "efficientnet": "EfficientNet",
    "vit": "ViT",
}
ARMS = {"fixed": "one learning rate", "grafted": "step size of α = 0"}


def draw() -> Figure:
    """Draw accuracy in both arms, the agreement of orders and the depth slopes."""
    outcomes, orders, slopes = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 105)
    axes = figure.subplots(2, 2).ravel()
    accuracy = outcomes[outcomes["quantity"] == "accuracy"]
    for ax, (arm, title) in zip(axes, ARMS.items(), strict=False):
        draw_curves(accuracy[(accuracy["arm"] == arm) | (accuracy["alpha"] == 0)], ax=ax)
        ax.set_title(title)
    fixed = orders[orders["arm"] == "fixed"]
    draw_by_net(fixed[fixed["with"] == "vgg13"], -0.1, "with VGG13", ax=axes[2], color="C0")
    draw_by_net(
        fixed[fixed["with"] == "itself"], 0.1, "with itself", ax=axes[2], color="C0", mfc="white"
    )
    axes[2].set_ylabel("rank correlation")
    axes[2].set_title("order of the alphas, test accuracy")
    own = slopes[slopes["alpha"] == 0]
    draw_by_net(own[own["phase"] == "start"], -0.1, "first step", ax=axes[3], color="C0")
    late = own[own["phase"] == "second half"]
    draw_by_net(late, 0.1, "second half", ax=axes[3], color="C0", mfc="white")
    axes[3].axhline(0, color="0.6", linewidth=0.5, zorder=0)
    axes[3].set_ylabel("slope (nat a block)")
    axes[3].set_title("depth slope of gradients, α = 0")
    for ax in axes[2:]:
        ax.legend()
    for ax in axes[:3]:
        ax.set_ylim(-0.05, 1.05)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=5)
    letter(list(axes))
    return figure


def draw_curves(rows: pd.DataFrame, *, ax: Axes) -> None:
    """Draw a curve over alpha for each architecture."""
    for index, (net, name) in enumerate(NETS.items()):
        own = rows[rows["net"] == net]
        color, fmt, shift = f"C{index}", f"{'osD^v'[index]}-", 0.008 * (index - 2)
        draw_means(own, "alpha", ax=ax, shift=shift, color=color, fmt=fmt, label=name)
    ax.set_xlabel("α")
    ax.set_ylabel("test accuracy")


def draw_by_net(rows: pd.DataFrame, shift: float, label: str, *, ax: Axes, **style: Any) -> None:
    """Draw a value for each architecture, side by side."""
    places = {net: index for index, net in enumerate(NETS)}
    own = rows.assign(place=rows["net"].map(places))
    draw_means(own, "place", ax=ax, shift=shift, label=label, fmt="o", **style)
    ax.set_xticks(np.arange(len(NETS)), NETS.values())

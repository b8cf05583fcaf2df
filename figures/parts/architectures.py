"""Curves over alpha and depth slopes of five architectures, from the tables of transfer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

TABLES = ("outcome_means", "order_means", "slope_means")
NETS = {
    "vgg13": "VGG13",
    "resnet14": "ResNet-14",
    "resnet14 without skips": "no skips",
    "efficientnet": "EfficientNet",
    "vit": "ViT",
}
ARMS = {"fixed": "one learning rate", "grafted": "step size of α = 0"}


def inputs_of(scale: str) -> tuple[str, ...]:
    """Return the tables of a scale, below ``data/``."""
    return tuple(f"results/architecture_transfer/{scale}/{name}.csv" for name in TABLES)


def draw_architectures(scale: str, *, lowest_rho: float) -> Figure:
    """Draw accuracy in both arms, the agreement of orders and the depth slopes."""
    outcomes, orders, slopes = (pd.read_csv(DATA / path) for path in inputs_of(scale))
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
    for ax in axes[:2]:
        ax.set_ylim(-0.05, 1.05)
    axes[2].set_ylim(lowest_rho, 1.05)
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

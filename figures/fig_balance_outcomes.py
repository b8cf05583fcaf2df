"""Effect of alpha on accuracy: against the grafted arm, tuned, and decomposed."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.scales import signed
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/balance/cpu"
NAMES = ("grafted_means", "tuned_means", "decomposition")
INPUTS = tuple(f"{FOLDER}/{name}.csv" for name in NAMES)
CAPTION = (
    "Effect of α on test accuracy. Narrow VGG13 (1/16 width) on digits, 120 steps, 10 seeds, "
    "scale cpu; claims about accuracy are decided at full scale only. Points are means and bars "
    "95 % t intervals. a, One learning rate (0.1) for all: α itself, and the direction of α = 0 "
    "with the norm of α's update. b, Learning rate and weight decay tuned for each α with the "
    "same budget. c, Effects on accuracy at the norm of α's update: of its distribution over "
    "tensors (profile), of its directions within tensors (direction), and their interaction."
)
ARMS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("none", "zero"): ("α as it is", {"color": "C0"}),
    ("global", "alpha"): (
        "direction of α = 0,\nstep size of α",
        {"color": "C1", "mfc": "white"},
    ),
}


def draw() -> Figure:
    """Draw twins, tuned accuracies and the decomposition."""
    grafted, tuned, effects = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 58)
    axes = figure.subplots(1, 3)
    draw_twins(grafted, ax=axes[0])
    draw_means(tuned, "alpha", ax=axes[1], color="C0")
    draw_effects(effects, ax=axes[2])
    for ax in axes[:2]:
        ax.set_xlabel("α")
        ax.set_ylabel("test accuracy")
    for ax, name in zip(axes, ("one learning rate", "tuned", "2 × 2"), strict=True):
        ax.set_title(name)
    axes[0].legend(loc="lower right")
    letter(list(axes))
    return figure


def draw_twins(grafted: pd.DataFrame, *, ax: Axes) -> None:
    """Draw alpha and its twin, set a little apart."""
    for number, (graft, (name, style)) in enumerate(ARMS.items()):
        own = grafted[(grafted["graft"] == graft[0]) & (grafted["graft_from"] == graft[1])]
        draw_means(own, "alpha", ax=ax, shift=0.008 * (number - 0.5), label=name, **style)


def draw_effects(effects: pd.DataFrame, *, ax: Axes) -> None:
    """Draw both main effects and the interaction, with intervals."""
    names = ["profile", "direction", "interaction"]
    alphas = sorted(effects["alpha"].unique())
    places = {name: place for place, name in enumerate(names)}
    for number, alpha in enumerate(alphas):
        own = effects[effects["alpha"] == alpha].assign(place=lambda t: t["effect"].map(places))
        shift = 0.2 * (number - (len(alphas) - 1) / 2)
        draw_means(
            own,
            "place",
            ax=ax,
            shift=shift,
            fmt="o",
            color=f"C{number + 2}",
            label=f"α = {signed(alpha)}",
        )
    ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylabel("effect on test accuracy")
    ax.margins(y=0.15)
    ax.legend(loc="upper left")

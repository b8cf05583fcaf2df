"""Effects of alpha at one global step size on the loss and on gradients."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.results import DATA
from gradscope.plots.axes.scales import signed
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/accumulation_bias/cpu"
INPUTS = tuple(f"{FOLDER}/{name}.csv" for name in ("decomposition", "stability_means"))
CAPTION = (
    "Narrow VGG13 (1/16 width) on digits, 150 steps, scale cpu; every step has the "
    "global size of the alpha = 0 step of the same state. Exploratory; bars are 95 % t intervals. "
    "a, effect of alpha on the logarithm of the training loss over the last tenth of the steps "
    "(negative: lower loss), and its parts: alpha's shares of the layers, its directions within "
    "layers, their interaction. b, roughness: standard deviation of ln RMS gradient from step to "
    "step, over the square root of 2. c, coherence: share of the squared gradient that survives in "
    "its moving average; the dashed line is that of uncorrelated gradients. d, depth slope of the "
    "output gradient in the last tenth of the steps."
)
EFFECTS = {
    "all of it": "all of it",
    "shares of the layers": "shares of\nthe layers",
    "directions within layers": "directions\nwithin layers",
    "interaction": "interaction",
}
UNCORRELATED = (1 - 0.9) / (1 + 0.9)


def draw() -> Figure:
    """Draw the parts of the effect, then roughness and coherence over alpha."""
    effects, stability = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 62)
    axes = figure.subplots(1, 4, width_ratios=[1.3, 1, 1, 1])
    draw_effects(effects, ax=axes[0])
    names = {
        "roughness": "roughness of gradients (nat)",
        "coherence": "coherence of gradients",
        "late_slope": "late depth slope (nat a layer)",
    }
    for ax, (quantity, name) in zip(axes[1:], names.items(), strict=True):
        draw_over_alpha(stability[stability["quantity"] == quantity], ax=ax)
        ax.set_ylabel(name)
    axes[2].axhline(UNCORRELATED, color="0.5", linestyle="--", linewidth=0.7, zorder=0)
    axes[3].axhline(0, color="0.6", linewidth=0.5, zorder=0)
    for letter, ax in zip("abcd", axes, strict=True):
        ax.set_title(letter, fontweight="bold", color="black", fontsize=8)
    return figure


def draw_effects(effects: pd.DataFrame, *, ax: Axes) -> None:
    """Draw each part of the effect with its interval, one mark an alpha."""
    alphas = sorted(effects["alpha"].unique())
    for number, alpha in enumerate(alphas):
        own = effects[effects["alpha"] == alpha].set_index("effect").loc[list(EFFECTS)]
        places = [place + 0.2 * (number - (len(alphas) - 1) / 2) for place in range(len(EFFECTS))]
        bars = [own["mean"] - own["low"], own["high"] - own["mean"]]
        ax.errorbar(
            own["mean"],
            places,
            xerr=bars,
            fmt="o",
            color=f"C{number}",
            label=f"alpha {signed(alpha)}",
        )
    ax.axvline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set_yticks(range(len(EFFECTS)), list(EFFECTS.values()))
    ax.invert_yaxis()
    ax.legend(loc="lower left", bbox_to_anchor=(0.1, 1.0), ncols=2)
    ax.set_xlabel("effect on ln training loss (nat)")


def draw_over_alpha(means: pd.DataFrame, *, ax: Axes) -> None:
    """Draw a mean and its interval at each alpha."""
    rows = means.sort_values("alpha")
    bars = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
    ax.errorbar(rows["alpha"], rows["mean"], yerr=bars, fmt="o-", color="C0")
    ax.set_xlabel("alpha")

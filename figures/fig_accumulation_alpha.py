"""Effects of alpha at one global step size on the loss and on gradients."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import legend_above, letter
from figures.parts.results import DATA
from gradscope.plots.axes.scales import signed
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/accumulation_bias/cpu"
INPUTS = tuple(f"{FOLDER}/{name}.csv" for name in ("decomposition", "stability_means"))
CAPTION = (
    "Effect of α on the training loss and on gradients. Narrow VGG13 (1/16 width) on digits, 150 "
    "steps, scale cpu; at every step the update has the norm that α = 0 would give it in the same "
    "state. Exploratory. Points are means and bars 95 % t intervals over seeds. a, Effect of α on "
    "ln training loss over the last tenth of the steps (negative: lower loss), and its parts: the "
    "distribution of the update over layers, its directions within layers, and their interaction. "
    "b, Roughness: standard deviation of the change of ln RMS gradient from step to step, divided "
    "by the square root of 2. c, Coherence: share of the squared gradient that remains in its "
    "moving average; the dashed line is the value for uncorrelated gradients. d, Slope of ln RMS "
    "output gradient over depth in the last tenth of the steps."
)
EFFECTS = {
    "all of it": "total",
    "shares of the layers": "distribution\nover layers",
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
        "late_slope": "late depth slope (nat per layer)",
    }
    for ax, (quantity, name) in zip(axes[1:], names.items(), strict=True):
        draw_over_alpha(stability[stability["quantity"] == quantity], ax=ax)
        ax.set_ylabel(name)
    axes[2].axhline(UNCORRELATED, color="0.5", linestyle="--", linewidth=0.7, zorder=0)
    axes[3].axhline(0, color="0.6", linewidth=0.5, zorder=0)
    letter(list(axes))
    legend_above(axes[0], n_columns=2)
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
            label=f"α = {signed(alpha)}",
        )
    ax.axvline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set_yticks(range(len(EFFECTS)), list(EFFECTS.values()))
    ax.invert_yaxis()
    ax.set_xlabel("effect on ln training loss (nat)")


def draw_over_alpha(means: pd.DataFrame, *, ax: Axes) -> None:
    """Draw a mean and its interval at each alpha."""
    rows = means.sort_values("alpha")
    bars = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
    ax.errorbar(rows["alpha"], rows["mean"], yerr=bars, fmt="o-", color="C0")
    ax.set_xlabel("α")

"""Effect of the number of classes and of other properties of the data on gradients."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/dataset_isomerism/cpu"
INPUTS = (f"{FOLDER}/class_means.csv", f"{FOLDER}/factor_means.csv")
CAPTION = (
    "Gradients on data with few and many classes, exploratory, scale cpu. Narrow VGG13 (1/16 "
    "width), synthetic images, 100 steps. Points are means and bars 95 % t intervals over seeds; "
    "marks of the same number of classes are set apart. a to c, 400 training images in 2 to 40 "
    "classes, compared after equal steps, or where the loss divided by ln(number of classes) "
    "first reaches 0.5. The head has one output per class (filled) or 40 outputs (open). a, Slope "
    "of ln RMS output gradient over depth within stages (positive: grows toward the output). b, "
    "c, Mean ln kurtosis of the gradients of inner weights (b) and of the head (c); higher is "
    "sparser. d, Effects of the five factors of a half fraction of a 2^5 factorial on the slope "
    "at equal steps, over the ranges given. The ranges have different units, so the effects "
    "cannot be ranked."
)
PANELS = {
    "output_grad_slope": "slope of output gradient\n(nat per layer)",
    "sparsity": "ln kurtosis,\ninner weights",
    "head_sparsity": "ln kurtosis,\nhead",
}
EQUAL = {"step": "steps", "loss": "loss"}
COLOURS = {"step": "C0", "loss": "C1"}
ASIDE = {("step", "constant"): 0.88, ("step", "own"): 0.96, ("loss", "constant"): 1.04}
"""Factors that keep marks of one number of classes apart."""


def draw() -> Figure:
    """Draw gradients over the number of classes, and the effects of the factorial."""
    classes, factors = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 56)
    axes = figure.subplots(1, 4, width_ratios=[1, 1, 1, 0.9])
    for ax, (quantity, name) in zip(axes, PANELS.items(), strict=False):
        draw_classes(classes[classes["quantity"] == quantity], ax=ax)
        ax.set_ylabel(name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    own = factors[(factors["matched"] == "step") & (factors["outcome"] == "output_grad_slope")]
    draw_factors(own, ax=axes[3])
    letter(list(axes))
    return figure


def draw_classes(means: pd.DataFrame, *, ax: Axes) -> None:
    """Draw a quantity over the number of classes, by head and by what was held equal."""
    for (matched, head), own in means.groupby(["matched", "head"], sort=False):
        is_own = head == "own"
        name = f"equal {EQUAL[matched]}" + ("" if is_own else ", head of 40 outputs")
        draw_means(
            own,
            "n_classes",
            ax=ax,
            factor=ASIDE.get((matched, head), 1.13),
            color=COLOURS[matched],
            fmt="o-" if is_own else "o--",
            mfc=COLOURS[matched] if is_own else "white",
            label=name,
        )
    ax.set_xscale("log", base=2)
    ticks = sorted(means["n_classes"].unique())
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("classes")


def draw_factors(effects: pd.DataFrame, *, ax: Axes) -> None:
    """Draw each factor's effect and its interval, with the range that it is of."""
    places = range(len(effects))
    bars = [effects["mean"] - effects["low"], effects["high"] - effects["mean"]]
    ax.errorbar(effects["mean"], places, xerr=bars, fmt="o", color="C0", elinewidth=0.7)
    ax.axvline(0, color="0.6", linewidth=0.5, zorder=0)
    names = [f"{row.factor}\n{row.levels}" for row in effects.itertuples()]
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.set_xlabel("effect on the slope\n(nat per layer)")

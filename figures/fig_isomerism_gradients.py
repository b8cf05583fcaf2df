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
    "Exploratory, scale cpu: narrow VGG13 (1/16 width), synthetic images, 100 steps; bars are 95 "
    "% t intervals over seeds. a to c, 400 training images in 2 to 40 classes, with a head of as "
    "many outputs as classes (filled) or of 40 (open), compared at equal steps and where the loss "
    "over ln(classes) is first 0.5. a, depth slope of ln output gradient within stages (positive "
    "grows toward the output). b, c, mean ln kurtosis of gradients of inner weights and of the "
    "head: higher is sparser. d, effect of each factor of half a 2^5 factorial on the slope at "
    "equal steps, over the range that it names; ranges differ in kind, so the order says nothing."
)
PANELS = {
    "output_grad_slope": "slope of output gradient\n(nat a layer)",
    "sparsity": "ln kurtosis,\ninner weights",
    "head_sparsity": "ln kurtosis,\nhead",
}
COLOURS = {"step": "C0", "loss": "C1"}


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
        name = f"equal {matched}" if is_own else f"equal {matched}, head of 40"
        draw_means(
            own,
            "n_classes",
            ax=ax,
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
    ax.set_xlabel("effect on the slope\n(nat a layer)")

"""Share of right, wrong and open verdicts in simulated studies with known effects."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.parts.results import read_result
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

INPUTS = ("results/calibration.json",)
CAPTION = (
    "Calibration of the verdicts: 2,000 simulated studies of five claims in each of four worlds, "
    "10 seeds per arm. Top: share of studies with each verdict, by claim. True effects lie at "
    "twice the margin on the false side, exactly at the margin (claims just false or just true), "
    "or at twice the margin on the true side. Bottom: share of studies in which at least one of "
    "the five verdicts is wrong (supported in a false world, not supported in a true world). Bars "
    "extend to the upper 99 % bound; the dashed line is the 5 % that the study allows."
)
WORLDS = {
    "nothing": "clearly false",
    "edge_false": "just false",
    "edge_true": "just true",
    "clear": "clearly true",
}
WORDS = {"not supported": "C1", "inconclusive": "0.85", "supported": "C0"}
ALLOWED = 0.05


def draw() -> Figure:
    """Draw a stacked bar for each claim and world, and the share of false words below."""
    result = read_result(INPUTS[0])
    figure = new_figure(WIDTHS_MM["column"], 78)
    grid = figure.add_gridspec(2, 4, height_ratios=[1.25, 1])
    above = [figure.add_subplot(grid[0, number]) for number in range(4)]
    for ax, (key, name) in zip(above, WORLDS.items(), strict=True):
        _verdicts(result["worlds"][key]["words"], ax=ax)
        ax.set_title(name.replace(" ", "\n", 1))
        ax.tick_params(axis="y", labelleft=ax is above[0])
    figure.legend(*above[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    _false_words(result["worlds"], ax=figure.add_subplot(grid[1, :]))
    return figure


def _verdicts(words: dict[str, dict[str, float]], *, ax: Axes) -> None:
    """Stack the share of each verdict, one bar a claim."""
    claims = list(words)
    left = [0.0] * len(claims)
    for word, color in WORDS.items():
        shares = [words[claim].get(word, 0.0) for claim in claims]
        ax.barh(claims, shares, left=left, color=color, height=0.75, label=word)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("share")
    ax.spines[:].set_visible(False)


def _false_words(worlds: dict[str, dict[str, Any]], *, ax: Axes) -> None:
    """Mark the share of studies with any false verdict, with its upper bound."""
    for place, key in enumerate(WORLDS):
        share, bound = worlds[key]["studies_with_false_word"], worlds[key]["upper_99"]
        ax.errorbar(
            share, place, xerr=[[0], [bound - share]], fmt="o", color="C0", capsize=2, markersize=3
        )
    ax.axvline(ALLOWED, color="0.3", linestyle="--", linewidth=0.7, zorder=0)
    ax.set_yticks(range(len(WORLDS)), list(WORLDS.values()))
    ax.set_ylim(len(WORLDS) - 0.5, -0.5)
    ax.set_xlim(left=-0.001)
    ax.annotate(
        "allowed ",
        (ALLOWED, 1),
        xycoords=("data", "axes fraction"),
        ha="right",
        va="top",
        color="0.3",
        fontsize="small",
    )
    ax.set_xlabel("share of studies with any false verdict")

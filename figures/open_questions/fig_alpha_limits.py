"""Limits of alpha: where training is stable, against the line of linear theory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/alpha_limits/cpu"
INPUTS = tuple(f"{FOLDER}/{name}.csv" for name in ("map", "boundary_means", "end_means"))
CAPTION = (
    "Stability over α and learning rate. Network of three hidden layers of 32 ReLU units on "
    "digits, 100 steps, 5 seeds, scale cpu, exploratory. a, b, How most of the seeds of a cell "
    "went, without and with batch norm. Unstable means that the training loss rose above twice "
    "its first value within 50 steps, or was not finite; learning, that the last loss was below "
    "0.95 of guessing. Line, largest stable learning rate by "
    "linear theory, computed from the initial networks (mean over seeds; none is fitted); dashed, "
    "the same with one number, the geometric mean of v, in place of each parameter's v. Diamonds, "
    "measured boundary. c, Boundary less line; means with 95 % t intervals over seeds. The grid "
    "has half decades, so that a difference below a quarter of a decade cannot be told from none. "
    "d, Share of unstable runs that ended in numbers that are not finite; intervals cut at 0 and 1."
)
NETS = {"no batch norm": ("C0", "o"), "batch norm": ("C1", "s")}
KINDS = {
    "stable": ("0.8", "."),
    "unstable, then learns": ("C2", "o"),
    "unstable, does not learn": ("C1", "o"),
    "not finite": ("C3", "x"),
}


def draw() -> Figure:
    """Draw both maps, the distance from the line and the ends of unstable runs."""
    cells, edges, ends = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 118)
    axes = figure.subplots(2, 2, gridspec_kw={"height_ratios": [3, 2]}).ravel()
    for ax, net in zip(axes, NETS, strict=False):
        draw_map(cells[cells["net"] == net], edges[edges["net"] == net], ax=ax)
        ax.set_title(net)
    limits = [ax.get_ylim() for ax in axes[:2]]
    for ax in axes[:2]:
        ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    distances = edges[edges["quantity"] == "distance"]
    lost = ends[ends["end"] == "not finite"].copy()
    lost[["low", "high"]] = lost[["low", "high"]].clip(0, 1)
    for ax, rows in ((axes[2], distances), (axes[3], lost)):
        for shift, (net, (color, marker)) in zip((-0.015, 0.015), NETS.items(), strict=True):
            own = rows[rows["net"] == net]
            draw_means(own, "alpha", ax=ax, shift=shift, label=net, color=color, fmt=f"{marker}-")
        ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    axes[2].set_ylabel("decades of learning rate")
    axes[2].set_title("boundary less line")
    axes[2].legend()
    axes[3].set_ylabel("share of unstable runs")
    axes[3].set_title("end in numbers that are not finite")
    for ax in axes:
        ax.set_xlabel("α")
    figure.legend(handles=_handles(), loc="outside lower left", ncols=4)
    letter(list(axes))
    return figure


def kind_of(cell: pd.Series) -> str:
    """Return how most of the seeds of a cell went."""
    if cell["unstable"] <= 0.5:
        return "stable"
    shares = {
        "not finite": cell["not finite"],
        "unstable, does not learn": cell["stuck"],
        "unstable, then learns": cell["trains"],
    }
    return max(shares, key=lambda name: shares[name])


def draw_map(cells: pd.DataFrame, edges: pd.DataFrame, *, ax: Axes) -> None:
    """Draw the cells by their kind, both lines and the measured boundary."""
    kinds = cells.apply(kind_of, axis=1)
    for kind, (color, marker) in KINDS.items():
        own = cells[kinds == kind]
        edge: dict[str, Any] = {} if marker == "x" else {"edgecolors": "none"}
        ax.scatter(
            own["alpha"], np.log10(own["lr"]), s=14, c=color, marker=marker, linewidths=0.8, **edge
        )
    for name, style in (("line", "-"), ("scalar_line", "--")):
        own = edges[edges["quantity"] == name]
        ax.plot(own["alpha"], own["mean"], style, color="black", linewidth=0.8)
    measured = edges[edges["quantity"] == "boundary"]
    draw_means(measured, "alpha", ax=ax, fmt="D", color="black", mfc="white", markersize=4)
    ax.set_ylabel("log₁₀ learning rate")


def _handles() -> list[Line2D]:
    marks = [
        Line2D([], [], linestyle="none", color=color, marker=marker, markersize=4, label=kind)
        for kind, (color, marker) in KINDS.items()
    ]
    lines = [
        Line2D([], [], color="black", linewidth=0.8, label="linear theory"),
        Line2D([], [], color="black", linewidth=0.8, linestyle="--", label="one number for v"),
        Line2D([], [], linestyle="none", color="black", mfc="white", marker="D", label="measured"),
    ]
    return [*marks, *lines]

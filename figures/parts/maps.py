"""A map over alpha and learning rate, and its accuracy at equal rate and at equal step."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from figures.parts.marks import letter
from gradscope.plots.axes.scales import signed
from gradscope.plots.axes.style import WIDTHS_MM, new_figure


def draw_alpha_map(table: pd.DataFrame) -> Figure:
    """Draw the map, and accuracy over learning rate and over measured step.

    Parameters
    ----------
    table : DataFrame
        A row a run: ``alpha``, ``lr``, ``accuracy``, ``step`` and ``is_diverged``; seeds are
        averaged.
    """
    keys = ["alpha", "lr"]
    cells = table.groupby(keys, as_index=False)[["accuracy", "step", "is_diverged"]].mean()
    figure = new_figure(WIDTHS_MM["page"], 62)
    axes = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
    draw_map(cells, ax=axes[0])
    draw_curves(cells, "lr", ax=axes[1])
    draw_curves(cells, "step", ax=axes[2])
    axes[1].set_xlabel("learning rate")
    axes[2].set_xlabel("measured step (RMS update)")
    axes[2].sharey(axes[1])
    axes[2].tick_params(labelleft=False)
    axes[1].set_ylabel("test accuracy")
    axes[1].set_ylim(0, 1)
    handles = axes[1].get_legend_handles_labels()
    figure.legend(*handles, title="α", loc="outside right center")
    letter(list(axes))
    return figure


def draw_map(cells: pd.DataFrame, *, ax: Axes) -> None:
    """Draw accuracy as colours and the measured step as contours."""
    accuracy, step, lost = (
        cells.pivot_table(index="lr", columns="alpha", values=name, dropna=False)
        for name in ("accuracy", "step", "is_diverged")
    )
    columns, rows = np.arange(accuracy.shape[1]), np.arange(accuracy.shape[0])
    mesh = ax.pcolormesh(
        columns, rows, accuracy, shading="nearest", vmin=0, vmax=1, rasterized=True
    )
    decades = np.log10(step.to_numpy())
    levels = np.arange(np.floor(np.nanmin(decades)), np.nanmax(decades))
    lines = ax.contour(
        columns,
        rows,
        np.ma.masked_invalid(decades),
        levels=levels,
        colors="white",
        linestyles="solid",
        linewidths=0.7,
    )
    ax.clabel(lines, fmt=lambda power: f"$10^{{{power:.0f}}}$", fontsize=6)
    at = np.argwhere(lost.to_numpy() > 0)
    ax.scatter(at[:, 1], at[:, 0], marker="x", color="white", s=9, linewidths=0.6)
    ax.set_xticks(columns, [signed(alpha) for alpha in accuracy.columns])
    ax.set_yticks(rows, [signed(lr) for lr in accuracy.index])
    ax.set_xlabel("α")
    ax.set_ylabel("learning rate")
    ax.figure.colorbar(mesh, ax=ax, label="test accuracy", pad=0.02)


def draw_curves(cells: pd.DataFrame, by: str, *, ax: Axes) -> None:
    """Draw accuracy over a column on a logarithmic axis, a line an alpha, in order of the rates."""
    alphas = sorted(cells["alpha"].unique())
    edges = np.arange(len(alphas) + 1) - 0.5
    colours = colormaps["plasma"](BoundaryNorm(edges, 256)(np.arange(len(alphas))) / 290)
    for alpha, colour in zip(alphas, colours, strict=True):
        own = cells[(cells["alpha"] == alpha) & (cells[by] > 0)].sort_values("lr")
        ax.plot(own[by], own["accuracy"], "o-", color=colour, label=signed(alpha))
    ax.set_xscale("log")

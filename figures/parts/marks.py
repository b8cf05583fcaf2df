"""Marks that several figures share: a mean with its interval, and panel letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def draw_means(
    rows: pd.DataFrame, x: str, *, ax: Axes, shift: float = 0.0, factor: float = 1.0, **style: Any
) -> None:
    """Draw ``mean`` with ``low`` to ``high`` over a column; a single seed has no interval.

    ``shift`` moves marks aside that would cover each other, ``factor`` does on a logarithmic axis.
    """
    own = rows.sort_values(x)
    bars = np.array([own["mean"] - own["low"], own["high"] - own["mean"]])
    style = {"fmt": "o-", "elinewidth": 0.7, **style}
    ax.errorbar(own[x] * factor + shift, own["mean"], yerr=np.nan_to_num(bars), **style)


def letter(axes: Sequence[Axes]) -> None:
    """Write a, b, c, … over panels, before the title that each has."""
    for name, ax in zip("abcdefghij", axes, strict=False):
        title = ax.get_title(loc="left")
        ax.set_title(f"$\\bf{{{name}}}$  {title}", fontsize=7, color="black")


def legend_above(ax: Axes, *, n_columns: int, n_rows: int = 1) -> None:
    """Put a legend between a panel and its title; call after `letter`.

    The legend may be wider than its panel, which keeps its width.
    """
    legend = ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        ncols=n_columns,
        columnspacing=1.0,
        labelspacing=0.2,
        borderpad=0.1,
    )
    legend.set_in_layout(False)
    title = ax.get_title(loc="left")
    ax.set_title(title, fontsize=7, color="black", pad=3 + 9 * n_rows)

"""Marks that several figures share: a mean with its interval, and panel letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def draw_means(rows: pd.DataFrame, x: str, *, ax: Axes, shift: float = 0.0, **style: Any) -> None:
    """Draw ``mean`` with ``low`` to ``high`` over a column; a single seed has no interval."""
    own = rows.sort_values(x)
    bars = np.array([own["mean"] - own["low"], own["high"] - own["mean"]])
    style = {"fmt": "o-", "elinewidth": 0.7, **style}
    ax.errorbar(own[x] + shift, own["mean"], yerr=np.nan_to_num(bars), **style)


def letter(axes: Sequence[Axes]) -> None:
    """Write a, b, c, … over panels, before the title that each has."""
    for name, ax in zip("abcdefghij", axes, strict=False):
        title = ax.get_title(loc="left")
        ax.set_title(f"$\\bf{{{name}}}$  {title}", fontsize=7, color="black")

"""Training losses of one recording: which are drawn, and how several are told apart."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gradscope import schema
from gradscope.derived.optimizers import losses_apart
from gradscope.plots.axes.names import ellipsis
from gradscope.plots.layouts.curve import draw_curve

LINES = ("-", "--", ":", "-.")
"""Line styles, one for every seven colours."""
LETTER_MM, HANDLE_MM, LEGEND_LINE_MM = 1.3, 9.0, 3.1
"""Of a legend in 6.5 pt: a letter, what stands beside the text of an entry, a line."""


def losses_between(
    tree: xr.DataTree, steps: np.ndarray, optimizer: str | None = None
) -> dict[str, xr.DataArray]:
    """Return the loss over the steps that are drawn, one for each objective with any value."""
    found = {
        name: loss.sel(step=slice(steps[0], steps[-1]))
        for name, loss in recorded_losses(tree).items()
        if optimizer is None or optimizer in name.split() or not name.startswith("loss of ")
    }
    return {name: loss for name, loss in found.items() if not np.isnan(loss.values).all()}


def recorded_losses(tree: xr.DataTree) -> dict[str, xr.DataArray]:
    """Return the training losses of a recording, finite or not; empty where none was logged.

    Without a ``loss``, those that were logged under names of their own, such as ``d_loss``.
    """
    training = tree.children.get("training")
    known = {k: v for k, v in losses_apart(tree).items() if v.size}
    if known or training is None:
        return known
    declared = schema.GROUPS["training"].variables
    named = {
        str(name): values
        for name, values in training.dataset.data_vars.items()
        if "loss" in str(name).lower() and name not in declared and values.dims == ("step",)
    }
    return {name: values.load().dropna("step") for name, values in named.items()}


@dataclass(frozen=True)
class LossKey:
    """Legend of several losses: their labels, its columns and its height in mm."""

    labels: dict[str, str]
    n_columns: int = 1
    height_mm: float = 0.0


def loss_key(losses: Mapping[str, xr.DataArray], room_mm: float, size: float) -> LossKey:
    """Lay the legend of several losses out in a width in mm; a single loss needs none.

    Long names lose their middle; where they would become alike, they are broken into lines.
    """
    names = {name: name.removeprefix("loss of ") for name in losses}
    if len(names) < 2:
        return LossKey(names)
    n_letters = max(int((room_mm / size - HANDLE_MM) / LETTER_MM), 8)
    short = [ellipsis(name, n_letters) for name in names.values()]
    if len(set(short)) < len(short):
        short = [textwrap.fill(name, n_letters) for name in names.values()]
    lines = [label.splitlines() for label in short]
    longest = max(len(line) for own in lines for line in own)
    n_columns = int(room_mm / size / (HANDLE_MM + LETTER_MM * longest))
    n_columns = min(max(n_columns, 1), len(names))
    n_lines = -(-len(names) // n_columns) * max(map(len, lines))
    height = (n_lines * LEGEND_LINE_MM + 1.0) * size
    return LossKey(dict(zip(names, short, strict=True)), n_columns, height)


def draw_losses(
    losses: Mapping[str, xr.DataArray],
    *,
    ax: Axes,
    room_mm: float,
    size: float = 1.0,
    title: str = "",
) -> None:
    """Draw one curve an objective, below a title; of several, with a legend between the two.

    Parameters
    ----------
    losses : mapping of str to DataArray, dims (step,)
        From `losses_between` or `gradscope.derived.optimizers.losses_apart`.
    ax : Axes
        Where to draw.
    room_mm : float
        Width that the legend may take.
    size : float
        Magnification of the style.
    title : str
        Above all.
    """
    key = loss_key(losses, room_mm, size)
    for i, (name, loss) in enumerate(losses.items()):
        look: dict[str, Any] = {"color": f"C{i % 7}", "linestyle": LINES[i // 7 % len(LINES)]}
        draw_curve(loss, ax=ax, label="loss", name=key.labels[name], **look)
    if ax.get_yscale() == "log" and any((loss.values <= 0).any() for loss in losses.values()):
        ax.set_yscale("linear")  # one that is positive may have asked for a log axis
    pad = float(mpl.rcParams["axes.titlepad"]) + key.height_mm * 72 / 25.4
    ax.set_title(title, pad=pad)
    if len(losses) > 1:
        shown = set(key.labels.values())
        lines = [line for line in ax.lines if line.get_label() in shown]
        ax.legend(
            handles=lines,
            loc="lower left",
            bbox_to_anchor=(0, 1.01),
            ncols=key.n_columns,
            labelspacing=0.2,
            borderpad=0.1,
        )

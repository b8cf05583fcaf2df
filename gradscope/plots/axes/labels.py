"""Axis labels: quantities from their attributes, rows by names that do not overlap."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from gradscope.derived.select import ALONG, row_dim
from gradscope.plots.axes.names import bare_names, clip_apart, ellipsis
from gradscope.plots.axes.style import NONFINITE_COLOUR

LINE_SPACING = 1.15
MIN_FONT_PT = 5.0
BRACKET = "bracket"
"""Group id of the lines that bracket blocks of rows."""
MAX_LABEL_SHARE = 0.22
"""Of the width of a figure, for the names of rows."""


def quantity_label(data: xr.DataArray) -> str:
    """Name a quantity with its unit, from ``long_name`` and ``units``; "1" is no unit to print."""
    words = str(data.attrs.get("long_name", data.name))
    units = str(data.attrs.get("units", "1"))
    return words if units in ("", "1") else f"{words} ({units})"


def fit_label(ax: Axes) -> None:
    """Break the label of a y axis into lines that fit its height."""
    label = ax.yaxis.label
    height = _height_pt(ax)
    n_characters = max(int(height / (0.55 * float(label.get_fontsize()))), 8)
    label.set_text(textwrap.fill(label.get_text(), n_characters, break_long_words=False))


def _height_pt(ax: Axes) -> float:
    """Height of the axes in points."""
    figure = ax.get_figure(root=True)
    return float(ax.get_window_extent().height * 72 / figure.dpi) if figure else 0.0


def row_labels(data: xr.DataArray) -> list[str]:
    """Return names of the rows without what they share, which `label_rows` fits to its room.

    An index alone is followed by the type of its layer.
    """
    names = bare_names(row_names(data))
    dim = row_dim(data)
    types = data.coords.get("layer_type")
    if types is None or types.dims != (dim,) or dim not in ("param", "layer"):
        return names
    return [
        ellipsis(f"{name} ({kind})") if kind and name.replace(".", "").isdigit() else name
        for name, kind in zip(names, types.values.astype(str), strict=True)
    ]


def row_names(data: xr.DataArray) -> list[str]:
    """Return the names of the rows; two digits of a relative depth."""
    labels = data[row_dim(data)].values
    is_depth = labels.dtype.kind == "f"
    return [f"{label:.2f}" if is_depth else str(label) for label in labels]


def along_dim(data: xr.DataArray) -> str:
    """Return the dimension that is drawn from left to right: ``step``, ``epoch`` or ``loss``."""
    return next(str(dim) for dim in data.dims if dim in ALONG)


def note_undrawn(ax: Axes, is_undrawn: np.ndarray) -> None:
    """Say how many rows have no line: zero, on a log axis, or missing."""
    count = int(is_undrawn.sum())
    if count:
        words = f"not shown: {count} {'row' if count == 1 else 'rows'}, zero or missing"
        ax.text(0.01, 0.02, words, transform=ax.transAxes, fontsize="x-small", color="0.35")


def mark_nonfinite(ax: Axes, places: np.ndarray) -> None:
    """Mark places on the x axis where something is not finite, at the top edge.

    Where nothing is finite, the y axis has no numbers.
    """
    if len(places):
        if not any(np.isfinite(line.get_ydata()).any() for line in ax.lines):
            ax.set_yticks([])
            ax.set_yticks([], minor=True)
        ax.plot(
            places,
            np.full(len(places), 0.98),
            "x",
            transform=ax.get_xaxis_transform(),
            color=NONFINITE_COLOUR,
            markersize=3,
            markeredgewidth=0.8,
            label="non-finite",
        )


def settle(ax: Axes) -> None:
    """Let the layout of a figure settle, so that sizes can be asked for."""
    figure = ax.get_figure(root=True)
    if figure is not None and figure.get_layout_engine() is not None:
        figure.draw_without_rendering()


def label_rows(ax: Axes, names: Sequence[str], *, share: float = MAX_LABEL_SHARE) -> None:
    """Name the rows ``0 … n - 1`` of a y axis as densely as can be read.

    Every row where there is room; else whole blocks of the network (a shared beginning of the
    names), each in a bracket; else every k-th row. Names take at most about ``share`` of the
    figure's width.
    """
    n_rows = len(names)
    height = _height_pt(ax)
    size = _tick_size(ax)
    per_row = height / max(n_rows, 1) / LINE_SPACING
    if per_row >= MIN_FONT_PT:
        _ticks(ax, range(n_rows), _fitting(ax, names, size, share), size=min(size, per_row))
        return
    gap = size * LINE_SPACING / height * n_rows
    blocks = _blocks(names, gap)
    if blocks:
        _ticks(ax, [], [], size=size)
        _brackets(ax, blocks, n_rows)
        middles = [(start + stop - 1) / 2 for start, stop, _ in blocks]
        kept = _apart(middles, [stop - start for start, stop, _ in blocks], gap)
        titles = _fitting(ax, [blocks[i][2] for i in kept], size, share)
        ax.set_yticks([middles[i] for i in kept], titles, minor=True)
        ax.tick_params(axis="y", which="minor", length=0, labelsize=size)
        return
    rows = np.linspace(0, n_rows - 1, int((n_rows - 1) / gap) + 1).round().astype(int).tolist()
    _ticks(ax, rows, _fitting(ax, [names[row] for row in rows], size, share), size=size)


def _brackets(ax: Axes, blocks: Sequence[tuple[int, int, str]], n_rows: int) -> None:
    """Draw a bracket beside the rows of each block, with a gap to the next."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    gap = min(0.35, 0.004 * n_rows)
    is_right = ax.yaxis.get_ticks_position() == "right"
    ends = [(start - 0.5 + gap, stop - 0.5 - gap) for start, stop, _ in blocks]
    ax.set_yticks([end for pair in ends for end in pair], [""] * 2 * len(ends))
    length = float(ax.yaxis.get_tick_params().get("length", 3.0))
    ax.tick_params(axis="y", which="major", direction="out", length=length)
    beside = ScaledTranslation((length if is_right else -length) / 72, 0, figure.dpi_scale_trans)
    for low, high in ends:
        ax.plot(
            [float(is_right)] * 2,
            [low, high],
            transform=ax.get_yaxis_transform() + beside,
            color=mpl.rcParams["ytick.color"],
            linewidth=mpl.rcParams["ytick.major.width"],
            solid_capstyle="projecting",
            clip_on=False,
            gid=BRACKET,
        )


def _fitting(ax: Axes, names: Sequence[str], size: float, share: float) -> list[str]:
    """Shorten names to a share of the figure's width, as far as they stay different."""
    figure = ax.get_figure(root=True)
    width = 72 * figure.get_figwidth() if figure is not None else 250.0
    room = max(int(share * width / (0.55 * size)), 12)
    return clip_apart(names, room)


def _tick_size(ax: Axes) -> float:
    """Font size of tick labels now, in points."""
    return float(ax.yaxis.get_tick_params().get("labelsize", 0) or ax.yaxis.label.get_fontsize())


def _ticks(ax: Axes, rows: Sequence[int] | range, names: Sequence[str], *, size: float) -> None:
    ax.set_yticks(list(rows), list(names))
    ax.set_yticks([], minor=True)
    ax.tick_params(axis="y", which="major", labelsize=size)


def _blocks(names: Sequence[str], gap: float) -> list[tuple[int, int, str]]:
    """Return (start, stop, name) at the deepest level whose larger blocks can all be named."""
    best: list[tuple[int, int, str]] = []
    for level in range(1, 5):
        heads = [".".join(name.split(".")[:level]) for name in names]
        blocks, start = [], 0
        for head, members in groupby(heads):
            stop = start + len(list(members))
            blocks.append((start, stop, head))
            start = stop
        named = sum(stop - start for start, stop, _ in blocks if stop - start >= gap)
        if len(blocks) > 2 and named >= 0.8 * len(names):
            best = blocks
    return best


def _apart(places: list[float], sizes: list[int], gap: float) -> list[int]:
    """Choose places at least ``gap`` from each other, the largest blocks first."""
    kept: list[int] = []
    for i in sorted(range(len(places)), key=lambda i: (-sizes[i], i)):
        if all(abs(places[i] - places[j]) >= gap for j in kept):
            kept.append(i)
    return sorted(kept)

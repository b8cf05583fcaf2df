"""Step axis: columns at the positions of their steps, with gaps where steps are missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gradscope.derived.cells import MISSING, NUMBER
from gradscope.plots.axes.scales import plain_number

MAX_COLUMNS = 1200
"""More than a printed page can show (150 mm at 200 columns per inch)."""

HOLE = 4.0
"""A gap this many times wider than all gaps near it holds steps that are missing."""

NEAR = 8
"""Gaps on each side that count as near: rows of several optimizers come in groups."""


@dataclass(frozen=True)
class Columns:
    """Rows of values on a true step axis.

    Parameters
    ----------
    edges : ndarray, shape (n_columns + 1,)
    values : ndarray, shape (n_rows, n_columns)
    states : ndarray, shape (n_rows, n_columns)
        Codes of `gradscope.derived.cells`.
    merged : int
        The largest number of recorded steps in one column.
    """

    edges: np.ndarray
    values: np.ndarray
    states: np.ndarray
    merged: int


def is_log_spaced(steps: np.ndarray) -> bool:
    """Return whether steps are spaced so that a logarithmic axis is suitable."""
    gaps = np.diff(steps)
    if gaps.size < 20 or steps[-1] < 20 * max(steps[0], 1):
        return False
    tenth = max(gaps.size // 10, 1)
    return bool(np.median(gaps[-tenth:]) >= 8 * np.median(gaps[:tenth]))


def step_columns(
    values: np.ndarray,
    steps: np.ndarray,
    *,
    states: np.ndarray | None = None,
    is_log_axis: bool = False,
    is_log_value: bool = False,
    max_columns: int = MAX_COLUMNS,
) -> Columns:
    """Place values of recorded steps on the step axis.

    A column reaches half-way to its neighbours; a hole in the record becomes a column of NaN.
    Where there are more columns than can be seen, those that fall together are averaged
    (geometrically, over what is positive, for quantities on a log scale).

    Parameters
    ----------
    values : ndarray, shape (n_steps, n_rows)
        NaN where missing.
    steps : ndarray, shape (n_steps,)
        Increasing.
    states : ndarray, shape (n_steps, n_rows), optional
        Codes of `gradscope.derived.cells`; by default numbers where ``values`` are. A column takes
        the largest of its steps, so that no non-finite step is averaged away.
    is_log_axis, is_log_value : bool
        Whether the step axis, and the scale of the values, are logarithmic.
    max_columns : int
        Columns to keep at most.

    Returns
    -------
    Columns
    """
    states = np.where(np.isnan(values), MISSING, NUMBER) if states is None else states
    values, states, edges = _open_holes(values, states, steps, _edges(steps))
    if values.shape[0] <= max_columns:
        return Columns(edges, values.T, states.T, 1)
    place = np.log(edges) if is_log_axis else edges
    middle = (place[:-1] + place[1:]) / 2
    bins = ((middle - place[0]) / (place[-1] - place[0]) * max_columns).astype(int)
    first = np.flatnonzero(np.diff(bins, prepend=-1))
    merged = int(np.diff(np.append(first, len(bins))).max())
    return Columns(
        edges=np.append(edges[first], edges[-1]),
        values=_means(values, first, is_log_value).T,
        states=np.maximum.reduceat(states, first, axis=0).T,
        merged=merged,
    )


def _edges(steps: np.ndarray) -> np.ndarray:
    """Half-way between neighbours; the outer ones half a gap away, and never below step 0.5."""
    steps = steps.astype(float)
    if steps.size == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[:-1] + steps[1:]) / 2
    first = steps[0] - (middle[0] - steps[0])
    low = 0.5 if steps[0] >= 1 else -0.5
    return np.concatenate([[max(first, low)], middle, [steps[-1] + (steps[-1] - middle[-1])]])


def _open_holes(
    values: np.ndarray, states: np.ndarray, steps: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put a column of missing values into each gap that is much wider than the gaps beside it."""
    gaps = np.diff(steps).astype(float)
    if gaps.size < 2:
        return values, states, edges
    padded = np.pad(gaps, NEAR)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEAR + 1)
    beside = np.delete(windows, NEAR, axis=1).max(axis=1)
    for i in np.flatnonzero(gaps > HOLE * beside)[::-1]:
        half = beside[i] / 2
        edges = np.concatenate(
            [edges[: i + 1], [steps[i] + half, steps[i + 1] - half], edges[i + 2 :]]
        )
        values = np.insert(values, i + 1, np.nan, axis=0)
        states = np.insert(states, i + 1, MISSING, axis=0)
    return values, states, edges


def _means(values: np.ndarray, first: np.ndarray, is_log: bool) -> np.ndarray:
    """Average groups of rows that begin at ``first``, over what is not missing."""
    known = ~np.isnan(values)
    used = known & (values > 0) if is_log else known
    with np.errstate(divide="ignore"):
        terms = np.where(used, np.log(np.where(used, values, 1)) if is_log else values, 0.0)
    counts = np.add.reduceat(used, first, axis=0, dtype=np.int64)
    means = np.add.reduceat(terms, first, axis=0) / np.maximum(counts, 1)
    means = np.exp(means) if is_log else means
    any_known = np.logical_or.reduceat(known, first, axis=0)
    return np.where(counts > 0, means, np.where(any_known, 0.0, np.nan))


def format_steps(ax: Axes, *, is_log: bool, label: str = "step", is_whole: bool = True) -> None:
    """Set scale, ticks and label of the step axis; epochs and losses are no whole numbers."""
    ax.set_xscale("log" if is_log else "linear")
    if is_log:
        subs = (1.0,) if is_whole else (1.0, 2.0, 5.0)
        ax.xaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=8))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.xaxis.set_major_locator(
            MaxNLocator(5, integer=is_whole, steps=[1, 2, 5, 10], min_n_ticks=1)
        )
    ax.xaxis.set_major_formatter(FuncFormatter(_step if is_whole else plain_number))
    ax.set_xlabel(label)


def _step(value: float, _: int | None = None) -> str:
    return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value:,.0f}"

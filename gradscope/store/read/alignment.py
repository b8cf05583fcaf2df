"""Alignment of the axes of several runs."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradscope.errors import UsageError
from gradscope.store.format import layout
from gradscope.store.format.layout import Axis
from gradscope.store.read.recording import labels_as_text, places, row_places

STEP_RULES = ("equal", "common", "union")
ALIGNED = "relative_depth=<number of points>"
"""The option that aligns other architectures, as messages name it."""


class NoCommonStepError(UsageError):
    """Runs whose rows of a group have no step in common."""


def align_steps(
    group: str, rows: list[np.ndarray | None], names: list[str], rule: str
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Return the common rows and their positions in each run (None if they are identical).

    Raises
    ------
    UsageError
        If the rule is ``"equal"`` and runs recorded different steps. The last row of a run may
        differ, because recorders add it.
    NoCommonStepError
        If the rule is ``"common"`` and no step is.
    """
    given = [(row, name) for row, name in zip(rows, names, strict=True) if row is not None]
    longest, longest_name = max(given, key=lambda pair: len(pair[0]))
    if all(np.array_equal(row, longest) for row, _ in given):
        return longest, [None] * len(rows)
    if rule == "equal":
        for row, name in given:
            _check_equal(group, row, name, longest, longest_name)
    distinct = {row.tobytes(): row for row, _ in given}.values()
    joined = longest
    for row in distinct:
        joined = np.intersect1d(joined, row) if rule == "common" else np.union1d(joined, row)
    if not len(joined):
        raise NoCommonStepError(f"the runs have no step of /{group} in common")
    return joined, [None if row is None else row_places(joined, row) for row in rows]


def _check_equal(
    group: str, row: np.ndarray, name: str, longest: np.ndarray, longest_name: str
) -> None:
    n = max(len(row) - 1, 1)
    differs = np.flatnonzero(row[:n] != longest[:n])
    if len(differs):
        at = differs[0]
        raise UsageError(
            f"runs {name} and {longest_name} recorded /{group} at different steps (row {at}: "
            f"{row[at]} and {longest[at]}); pass steps='common' or steps='union'"
        )


def align_columns(
    group: str, axes: list[Axis | None], names: list[str]
) -> tuple[dict[str, xr.Variable], list[np.ndarray | None]]:
    """Return labels and coordinates in the order of the first run, and positions in each run.

    Coordinates that differ between the runs become two-dimensional, (run, param).

    Raises
    ------
    UsageError
        If the runs have different labels.
    """
    given = [(axis, name) for axis, name in zip(axes, names, strict=True) if axis is not None]
    first, first_name = given[0]
    labels = set(first.labels.tolist())
    for axis, name in given:
        own = set(axis.labels.tolist())
        if own != labels:
            other = sorted(own ^ labels)[0]
            raise UsageError(
                f"runs {first_name} and {name} have different {first.dim}s in /{group} "
                f"({len(first)} and {len(axis)}; only one has {other!r}): other architectures "
                f"are aligned with {ALIGNED}"
            )
    along = [
        None
        if a is None or np.array_equal(a.labels, first.labels)
        else places(first.labels, a.labels)
        for a in axes
    ]
    return _coordinates(first, axes, along), along


def _coordinates(
    first: Axis, axes: list[Axis | None], along: list[np.ndarray | None]
) -> dict[str, xr.Variable]:
    known = layout.coordinates_of(first.dim)
    coordinates = {}
    for name, values in first.columns.items():
        columns = [values] * len(axes)
        for i, (axis, place) in enumerate(zip(axes, along, strict=True)):
            if axis is not None and name in axis.columns:
                columns[i] = axis.columns[name] if place is None else axis.columns[name][place]
        data, dims = values, [first.dim]
        if not all(np.array_equal(column, values) for column in columns):
            data, dims = np.stack(columns), ["run", first.dim]
        coordinates[name] = xr.Variable(dims, labels_as_text(data), known[name].attrs)
    return coordinates


def depth_places(axis: Axis, grid: np.ndarray) -> np.ndarray:
    """Return the position of the weight layer nearest to each relative depth.

    Along ``param`` these are the parameters of kind ``weight``; along ``layer`` the first layer of
    each depth, which is its weight layer.

    Raises
    ------
    UsageError
        If the axis has no relative depth.
    """
    if "relative_depth" not in axis.columns or "depth" not in axis.columns:
        raise UsageError(f"{axis.dim} has no relative_depth to align by")
    is_candidate = axis.columns["depth"] >= 0
    if "kind" in axis.columns:
        is_candidate &= np.isin(axis.columns["kind"].astype(str), ["weight", "embedding"])
    candidates = np.flatnonzero(is_candidate)
    _, firsts = np.unique(axis.columns["depth"][candidates], return_index=True)
    candidates = candidates[np.sort(firsts)]
    if not len(candidates):
        raise UsageError(f"no weight layer among the {axis.dim}s")
    relative = axis.columns["relative_depth"][candidates].astype(float)
    nearest: np.ndarray = candidates[np.abs(grid[:, None] - relative[None, :]).argmin(axis=1)]
    return nearest

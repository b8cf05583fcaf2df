"""Assembly of the files of one recording: valid rows and common labels.

The rows of a group are concatenated over files. A row is void if a later file has a row of the same
group at the same step or earlier, or was started by resuming at an earlier step (root attribute
``resume_step``). Other axes are aligned by label, in the order of the last file followed by labels
that only earlier files have. Labels that a file lacks are missing in its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gradscope import schema
from gradscope.errors import RecordingError
from gradscope.store.format import layout
from gradscope.store.format.contents import FileContents, GroupContents
from gradscope.store.format.layout import Axis
from gradscope.store.format.migrate import migrate


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of a group from one file.

    ``home`` is the group's path in the file. ``columns`` gives the position of each label of an
    axis in this file, -1 if it is missing. Axes with equal labels have no entry.
    """

    path: Path
    home: str
    start: int
    stop: int
    variables: frozenset[str]
    columns: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class GroupPlan:
    """One group over all files. Piece i contributes its rows from its own row 0 on."""

    name: str
    rows: np.ndarray
    axes: dict[str, Axis]
    variables: dict[str, schema.Variable]
    attrs: dict[str, dict[str, Any]]
    pieces: tuple[Piece, ...]

    def shape(self, variable: str) -> tuple[int, ...]:
        """Length of each dimension of a variable."""
        dims = self.variables[variable].dims[1:]
        return (len(self.rows), *(len(self.axes[dim]) for dim in dims))


@dataclass(frozen=True, eq=False)
class RecordingPlan:
    """A whole recording, over one finished file or any number of segments."""

    attrs: dict[str, Any]
    groups: dict[str, GroupPlan]


OpenFile = Callable[[Path], h5py.File]


def plan(files: Sequence[FileContents], resume_step: int | None = None) -> RecordingPlan:
    """Plan how files are joined, the oldest first.

    Parameters
    ----------
    files : sequence of FileContents
        Segments in order, or the one finished file.
    resume_step : int, optional
        Rows beyond this step are void in all files.

    Raises
    ------
    RecordingError
        If files belong to different runs.
    """
    attrs: dict[str, Any] = {}
    files = [migrate(file) for file in files]
    for file in files:
        if file.attrs.get("created_at") != files[0].attrs.get("created_at"):
            raise RecordingError(f"{file.path} belongs to another run than {files[0].path}")
        attrs |= file.attrs
    limits = _resume_limits(files, resume_step)
    names = dict.fromkeys(name for name in _ordered(files))
    groups = {}
    for name in names:
        parts = [
            (file.path, file.groups[name], limit)
            for file, limit in zip(files, limits, strict=True)
            if name in file.groups
        ]
        group = _plan_group(name, parts)
        if len(group.rows):
            groups[name] = group
    return RecordingPlan(attrs, groups)


def _ordered(files: Sequence[FileContents]) -> list[str]:
    """Names of groups in the order of the schema, followed by spikes."""
    present = {name for file in files for name in file.groups}
    order = [*schema.GROUPS, *(f"spikes/{name}" for name in schema.GROUPS)]
    return [name for name in order if name in present]


def _resume_limits(files: Sequence[FileContents], resume_step: int | None) -> list[float]:
    """Return the last step of each file that no later resume made void."""
    limit = np.inf if resume_step is None else resume_step
    limits = []
    for file in reversed(files):
        limits.append(limit)
        limit = min(limit, file.attrs.get("resume_step", np.inf))
    return limits[::-1]


def _plan_group(name: str, parts: list[tuple[Path, GroupContents, float]]) -> GroupPlan:
    kept, before = [], np.inf
    for path, contents, limit in reversed(parts):
        n_rows = int(np.searchsorted(contents.rows, min(before, limit + 1)))
        kept.append((path, contents, n_rows))
        if n_rows:
            before = contents.rows[0]
    kept.reverse()
    groups = [contents for _, contents, _ in kept]
    axes = {
        dim: _merge_axes([g.axes[dim] for g in groups if dim in g.axes])
        for dim in layout.column_dims(name)
        if any(dim in g.axes for g in groups)
    }
    variables: dict[str, schema.Variable] = {}
    attrs: dict[str, dict[str, Any]] = {}
    for group in groups:
        variables |= group.variables
        attrs |= group.attrs
    pieces, start = [], 0
    for path, group, n_rows in kept:
        columns = {d: c for d, a in group.axes.items() if (c := _places(axes[d], a)) is not None}
        if n_rows:
            stop = start + n_rows
            pieces.append(Piece(path, group.home, start, stop, frozenset(group.variables), columns))
            start = stop
    rows = [group.rows[:n_rows] for _, group, n_rows in kept]
    return GroupPlan(name, np.concatenate(rows), axes, variables, attrs, tuple(pieces))


def _merge_axes(axes: list[Axis]) -> Axis:
    """Union of labels: those of the last axis, then those that only earlier axes have."""
    last = axes[-1]
    if all(_is_same(axis, last) for axis in axes):
        return last
    labels = dict.fromkeys(label for axis in reversed(axes) for label in axis.labels.tolist())
    columns = {}
    for name, declaration in layout.coordinates_of(last.dim).items():
        having = [axis for axis in axes if name in axis.columns]
        if having:
            dtype = layout.numpy_dtype(declaration)
            known: dict[Any, Any] = {}
            for axis in having:
                known |= zip(axis.labels.tolist(), axis.columns[name].tolist(), strict=True)
            empty = layout.missing(dtype)
            columns[name] = np.array([known.get(label, empty) for label in labels], dtype=dtype)
    return Axis(last.dim, columns)


def _is_same(axis: Axis, other: Axis) -> bool:
    return axis is other or (
        axis.columns.keys() == other.columns.keys()
        and all(np.array_equal(values, other.columns[n]) for n, values in axis.columns.items())
    )


def _places(axis: Axis, own: Axis) -> np.ndarray | None:
    """Position of each label of ``axis`` in ``own``; None if the labels are equal."""
    if np.array_equal(axis.labels, own.labels):
        return None
    index = {label: i for i, label in enumerate(own.labels.tolist())}
    return np.array([index.get(label, -1) for label in axis.labels.tolist()], dtype=np.int64)


def read_block(
    group: GroupPlan, variable: str, index: tuple[slice | np.ndarray, ...], open_file: OpenFile
) -> np.ndarray:
    """Read a block of a variable across files, in the dtype of the file and with its fill values.

    Parameters
    ----------
    index : tuple of slice or int array, one for each dimension
        Slices have positive steps. Arrays contain positions in any order, -1 for missing.
    open_file : callable
        Returns the open file of a path and keeps it open.
    """
    shape = group.shape(variable)
    declaration = group.variables[variable]
    wanted = [_as_places(i, n) for i, n in zip(index, shape, strict=True)]
    dtype = layout.numpy_dtype(declaration)
    block = np.full([len(places) for places in wanted], layout.missing(dtype), dtype)
    for piece in group.pieces:
        if variable in piece.variables:
            _read_piece(block, piece, declaration, wanted, open_file)
    return block


def _read_piece(
    block: np.ndarray,
    piece: Piece,
    variable: schema.Variable,
    wanted: list[np.ndarray],
    open_file: OpenFile,
) -> None:
    """Fill the part of ``block`` that one file has: read one hyperslab, then select positions."""
    to, source = [], []
    for axis, (dim, places) in enumerate(zip(variable.dims, wanted, strict=True)):
        if axis == 0:
            inside = np.flatnonzero((places >= piece.start) & (places < piece.stop))
            here = places[inside] - piece.start
        else:
            own = piece.columns[dim][places] if dim in piece.columns else places
            inside = np.flatnonzero((places >= 0) & (own >= 0))
            here = own[inside]
        if not len(here):
            return
        to.append(inside)
        source.append(here)
    slab = tuple(slice(int(h.min()), int(h.max()) + 1) for h in source)
    dataset = open_file(piece.path)[f"{piece.home}/{variable.name}"]
    if any(s.stop > n for s, n in zip(slab, dataset.shape, strict=True)):
        raise RecordingError(f"{piece.path} changed while it was read; open it again")
    data = dataset[slab]
    local = [h - s.start for h, s in zip(source, slab, strict=True)]
    is_whole = all(_is_range(h, n) for h, n in zip(local, data.shape, strict=True))
    block[np.ix_(*to)] = data if is_whole else data[np.ix_(*local)]


def _is_range(places: np.ndarray, length: int) -> bool:
    return len(places) == length and np.array_equal(places, np.arange(length))


def _as_places(index: slice | np.ndarray, length: int) -> np.ndarray:
    if isinstance(index, slice):
        return np.arange(*index.indices(length))
    return np.asarray(index, dtype=np.int64)

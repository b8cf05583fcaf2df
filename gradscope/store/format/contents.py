"""Contents of one file of a recording: groups, variables and axes, checked against the schema.

Names, kinds and sizes are checked before any data are read, so that a damaged or foreign file
raises an error instead of crashing the process or filling its memory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gradscope import schema
from gradscope.errors import RecordingError
from gradscope.store.format import layout
from gradscope.store.format.h5objects import hard_links, open_member, read_attributes, read_whole
from gradscope.store.format.layout import Axis
from gradscope.store.format.unreadable import explain

MAX_RATIO = 1100
"""Deflate shrinks at most 1,032-fold; an array that claims more than this is not there."""
SLACK_BYTES = 16 * 1024 * 1024

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError, MemoryError)


@dataclass(frozen=True, eq=False)
class GroupContents:
    """One group of one file: labels of its rows and other axes, and its variables.

    ``home`` is its path in the file, which may be a former name.
    """

    name: str
    home: str
    rows: np.ndarray
    axes: dict[str, Axis]
    variables: dict[str, schema.Variable]
    attrs: dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class FileContents:
    """One file: its root attributes and its groups by name."""

    path: Path
    attrs: dict[str, Any]
    groups: dict[str, GroupContents]


@contextlib.contextmanager
def one_error(path: Path) -> Iterator[None]:
    """Convert errors of HDF5 for a damaged file into a RecordingError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except RecordingError as error:
        if str(path) in str(error):
            raise
        raise RecordingError(f"{path}: {error}") from error
    except _DAMAGE as error:
        raise RecordingError(explain(path, error)) from error


def open_file(path: Path | str) -> h5py.File:
    """Open a file for reading, also on file systems without locks."""
    try:
        return h5py.File(path, "r")
    except BlockingIOError:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if not Path(path).exists():  # removed by the merge of its writer while it was being opened
            raise FileNotFoundError(f"{path} is gone") from error
        if "lock" not in str(error).lower():
            raise
        return h5py.File(path, "r", locking=False)


def read_contents(
    path: Path, groups: tuple[str, ...] | None = None, *, has_attrs: bool = True
) -> FileContents:
    """Read the structure of a file without its data.

    Parameters
    ----------
    path : Path
        A segment or a finished recording.
    groups : tuple of str, optional
        Groups to read; all by default.
    has_attrs : bool, default True
        Whether to read the attributes of variables; False is faster.

    Raises
    ------
    RecordingError
        If the file is damaged, is not a recording, or has a newer schema version.
    """
    with one_error(path), open_file(path) as file:
        attrs = read_attributes(file)
        check_version(attrs, path)
        found = {}
        for name, group in _groups(file):
            if groups is None or name in groups:
                found[name] = _read_group(name, group, has_attrs)
        return FileContents(path, attrs, found)


def check_version(attrs: dict[str, Any], path: Path) -> None:
    """Raise for files that are not recordings or that have a newer schema version."""
    version = attrs.get("schema_version")
    if version is None:
        raise RecordingError(f"{path} is an HDF5 file, but not a recording of gradscope")
    major = str(version).split(".")[0]
    known = schema.SCHEMA_VERSION.split(".")[0]
    if not major.isdecimal() or int(major) > int(known):
        raise RecordingError(
            f"{path} has schema version {version}, this gradscope reads up to {known}.x; "
            "install a newer gradscope"
        )


def _groups(file: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    """Groups of the schema, and those in ``/spikes``."""
    for name, group in _known_groups(file):
        # A segment may hold rows around an event that stands in an earlier one.
        if name != "spikes" or layout.row_dim(name) in hard_links(group):
            yield name, group
        if name == "spikes":
            below = _known_groups(group)
            yield from ((f"spikes/{child}", found) for child, found in below if child != "spikes")


def _known_groups(parent: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
    there = set(hard_links(parent))
    for name in schema.GROUPS:
        home = name if name in there else schema.FORMER_NAMES.get(name, name)
        group = open_member(parent, home, h5py.Group) if home in there else None
        if group is not None:
            yield name, group


def _read_group(name: str, group: h5py.Group, has_attrs: bool) -> GroupContents:
    members = _datasets(name, group)
    row_dim = layout.row_dim(name)
    rows = _labels(members, name, row_dim)
    if rows.dtype.kind not in "iu" or (rows[1:] <= rows[:-1]).any():
        raise RecordingError(f"{row_dim} of group {name} does not increase")
    rows = rows.astype(np.int64, copy=False)
    axes = {dim: _axis(members, name, dim) for dim in layout.column_dims(name) if dim in members}
    lengths = {dim: len(axis) for dim, axis in axes.items()} | {row_dim: len(rows)}
    taken = {row_dim, *(column for axis in axes.values() for column in axis.columns)}
    variables, attrs = {}, {}
    for key, dataset in members.items():
        if key in taken or not _is_known(name, key):
            continue
        variables[key] = _variable(name, key, dataset, lengths)
        attrs[key] = read_attributes(dataset) if has_attrs else {}
    return GroupContents(name, group.name.strip("/"), rows, axes, variables, attrs)


def _datasets(name: str, group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Open the datasets of a group that the schema declares."""
    along = {key for dim in layout.column_dims(name) for key in layout.coordinates_of(dim)}
    known = along | {layout.row_dim(name)}
    found = {
        key: open_member(group, key, h5py.Dataset)
        for key in hard_links(group)
        if key in known or _is_known(name, key)
    }
    return {key: dataset for key, dataset in found.items() if dataset is not None}


def _is_known(group: str, name: str) -> bool:
    base = layout.declared_group(group)
    return base.is_open or name in base.variables


def _variable(
    group: str, name: str, dataset: h5py.Dataset, lengths: dict[str, int]
) -> schema.Variable:
    """Return the declaration of a stored variable after checking its kind, shape and size."""
    declaration = layout.declared(group, name)
    dtype, shape = dataset.dtype, dataset.shape
    if dtype.kind not in "iuf":
        raise RecordingError(f"{group}/{name} holds {dtype}, not numbers")
    if dtype != layout.numpy_dtype(declaration):
        declaration = replace(declaration, dtype=dtype.newbyteorder("=").name)
    expected = tuple(lengths.get(dim) for dim in declaration.dims)
    if shape != expected:
        raise RecordingError(
            f"{group}/{name} has shape {shape}; its dimensions "
            f"{declaration.dims} have lengths {expected}"
        )
    _check_size(dataset, shape, dtype)
    return declaration


def _check_size(dataset: h5py.Dataset, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise if the shape of an array does not fit its stored bytes."""
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > SLACK_BYTES and claimed > MAX_RATIO * dataset.id.get_storage_size():
        raise RecordingError(
            f"{dataset.name} claims {claimed:,} bytes but stores {dataset.id.get_storage_size():,}"
        )


def _axis(members: dict[str, h5py.Dataset], group: str, dim: str) -> Axis:
    """Read the index of a dimension and the coordinates along it."""
    columns = {dim: _labels(members, group, dim)}
    for name in layout.coordinates_of(dim):
        if name != dim and name in members:
            column = _labels(members, group, name)
            if len(column) == len(columns[dim]):
                columns[name] = column
    return Axis(dim, columns)


def _labels(members: dict[str, h5py.Dataset], group: str, name: str) -> np.ndarray:
    """Read a one-dimensional array of numbers or texts."""
    dataset = members.get(name)
    if dataset is None:
        raise RecordingError(f"/{group} has no {name}")
    dtype, shape = dataset.dtype, dataset.shape
    if shape is None or len(shape) != 1:
        raise RecordingError(f"/{group}/{name} has shape {shape}, not one dimension")
    _check_size(dataset, shape, dtype)
    if dtype.kind not in "iufS":
        raise RecordingError(f"/{group}/{name} holds {dtype}, neither numbers nor fixed text")
    values = read_whole(dataset, shape, dtype)
    if dtype.kind == "S":
        return np.array([value.decode("utf-8", "replace") for value in values.tolist()], object)
    return values

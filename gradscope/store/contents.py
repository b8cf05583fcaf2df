"""What one file of a recording holds: its groups, variables and axes, read with suspicion.

Names, kinds and sizes are checked against the schema before anything is read, so that a damaged or
foreign file ends in one error and not in a crash or a full memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gradscope import schema
from gradscope.errors import RecordingError
from gradscope.store import layout
from gradscope.store.layout import Axis

MAX_RATIO = 1100
"""Deflate shrinks at most 1,032-fold; an array that claims more than this is not there."""
SLACK_BYTES = 16 * 1024 * 1024

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError, MemoryError)


@dataclass(frozen=True, eq=False)
class GroupContents:
    """One group of one file: labels of its rows and other axes, and its variables."""

    name: str
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
    """Turn whatever a damaged file makes of HDF5 into one RecordingError."""
    try:
        yield
    except (RecordingError, FileNotFoundError):
        raise
    except _DAMAGE as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise RecordingError(f"{path} is no readable recording: {words}") from error


def open_file(path: Path | str) -> h5py.File:
    """Open a file for reading, also where the file system refuses locks."""
    try:
        return h5py.File(path, "r")
    except BlockingIOError:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if not Path(path).exists():  # merged away by its writer while it was being opened
            raise FileNotFoundError(f"{path} is gone") from error
        if "lock" not in str(error).lower():
            raise
        return h5py.File(path, "r", locking=False)


def read_contents(
    path: Path, groups: tuple[str, ...] | None = None, *, has_attrs: bool = True
) -> FileContents:
    """Read what a file holds, without its numbers.

    Parameters
    ----------
    path : Path
        A segment or a finished recording.
    groups : tuple of str, optional
        Only these groups; all by default.
    has_attrs : bool, default True
        Whether to read the attributes of variables too; without, it is faster.

    Raises
    ------
    RecordingError
        If the file is damaged, is no recording or was written by a newer schema.
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
    """Refuse what is no recording, and what only a newer gradscope understands."""
    version = attrs.get("schema_version")
    if version is None:
        raise RecordingError(f"{path} is no recording of gradscope: it has no schema_version")
    major = str(version).split(".")[0]
    known = schema.SCHEMA_VERSION.split(".")[0]
    if not major.isdecimal() or int(major) > int(known):
        raise RecordingError(
            f"{path} has schema version {version}, this gradscope reads up to {known}.x; "
            "install a newer gradscope"
        )


def read_attributes(target: Any) -> dict[str, Any]:
    """Return the attributes of a group or variable that are texts or numbers.

    Texts of variable length are left out: they lie in the global heap, which has no checksum.
    """
    attrs: dict[str, Any] = {}
    for name in target.attrs:
        if name in ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST") or name.startswith("_"):
            continue
        attribute = target.attrs.get_id(name)
        if attribute.dtype.kind not in "iufS" or (attribute.dtype.kind == "S" and attribute.shape):
            continue
        value = np.zeros(attribute.shape, attribute.dtype)
        attribute.read(value)
        attrs[name] = value if value.shape else value.item()
        if isinstance(attrs[name], bytes):
            attrs[name] = attrs[name].decode("utf-8", "replace")
    return attrs


def _groups(file: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    """Groups of the schema, and those in ``/spikes``; soft and external links are not followed."""
    for name in schema.GROUPS:
        group = _hard(file, name, h5py.Group)
        if group is None:
            continue
        yield name, group
        if name == "spikes":
            for child in schema.GROUPS:
                below = _hard(group, child, h5py.Group)
                if below is not None and child != "spikes":
                    yield f"spikes/{child}", below


def _hard(parent: h5py.Group, name: str, kind: type) -> Any:
    links, key = parent.id.links, name.encode()
    if not links.exists(key) or links.get_info(key).type != h5py.h5l.TYPE_HARD:
        return None
    found = parent[name]
    return found if isinstance(found, kind) else None


def _read_group(name: str, group: h5py.Group, has_attrs: bool) -> GroupContents:
    row_dim = layout.declared_group(name).dims[0]
    rows = read_labels(group, row_dim)
    if rows.dtype.kind not in "iu" or (rows[1:] <= rows[:-1]).any():
        raise RecordingError(f"{row_dim} of group {name} does not increase")
    rows = rows.astype(np.int64)
    axes = {
        dim: read_axis(group, dim)
        for dim in layout.column_dims(name)
        if _hard(group, dim, h5py.Dataset) is not None
    }
    lengths = {dim: len(axis) for dim, axis in axes.items()} | {row_dim: len(rows)}
    taken = {row_dim, *(column for axis in axes.values() for column in axis.columns)}
    variables, attrs = {}, {}
    for key in group:
        dataset = _hard(group, key, h5py.Dataset)
        if key in taken or dataset is None or not _is_known(name, key):
            continue
        variables[key] = _variable(name, key, dataset, lengths)
        attrs[key] = read_attributes(dataset) if has_attrs else {}
    return GroupContents(name, rows, axes, variables, attrs)


def _is_known(group: str, name: str) -> bool:
    base = layout.declared_group(group)
    return base.is_open or name in base.variables


def _variable(
    group: str, name: str, dataset: h5py.Dataset, lengths: dict[str, int]
) -> schema.Variable:
    """Return the declaration of a stored variable once kind, shape and size agree with it."""
    declaration = layout.declared(group, name)
    if dataset.dtype.kind not in "iuf":
        raise RecordingError(f"{group}/{name} holds {dataset.dtype}, not numbers")
    if dataset.dtype != layout.numpy_dtype(declaration):
        declaration = schema.Variable(
            **{**vars(declaration), "dtype": dataset.dtype.newbyteorder("=").name}
        )
    expected = tuple(lengths.get(dim) for dim in declaration.dims)
    if dataset.shape != expected:
        raise RecordingError(
            f"{group}/{name} has shape {dataset.shape}; its dimensions "
            f"{declaration.dims} have lengths {expected}"
        )
    check_size(dataset)
    return declaration


def check_size(dataset: h5py.Dataset) -> None:
    """Refuse an array that claims more than its stored bytes can hold."""
    claimed = dataset.size * dataset.dtype.itemsize if dataset.size else 0
    if claimed > SLACK_BYTES and claimed > MAX_RATIO * dataset.id.get_storage_size():
        raise RecordingError(
            f"{dataset.name} claims {claimed:,} bytes but stores {dataset.id.get_storage_size():,}"
        )


def read_axis(group: h5py.Group, dim: str) -> Axis:
    """Read the index of a dimension and the coordinates along it."""
    columns = {dim: read_labels(group, dim)}
    for name in layout.coordinates_of(dim):
        if name != dim and _hard(group, name, h5py.Dataset) is not None:
            column = read_labels(group, name)
            if len(column) == len(columns[dim]):
                columns[name] = column
    return Axis(dim, columns)


def read_labels(group: h5py.Group, name: str) -> np.ndarray:
    """Read a one-dimensional array of numbers or texts."""
    dataset = _hard(group, name, h5py.Dataset)
    if dataset is None:
        raise RecordingError(f"{group.name} has no {name}")
    if dataset.ndim != 1:
        raise RecordingError(f"{dataset.name} has {dataset.ndim} dimensions, not one")
    check_size(dataset)
    text = h5py.check_string_dtype(dataset.dtype)
    if text is not None and text.length is not None:
        data = [value.decode("utf-8", "replace") for value in dataset[()].tolist()]
        return np.array(data, dtype=object)
    if dataset.dtype.kind not in "iuf":
        raise RecordingError(
            f"{dataset.name} holds {dataset.dtype}, neither numbers nor fixed text"
        )
    return dataset[()]

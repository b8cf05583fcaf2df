"""Lazy arrays that read from the files of a recording."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from xarray.backends import BackendArray, CachingFileManager
from xarray.core import indexing

from gradscope.derived.variables import compute
from gradscope.errors import RecordingError
from gradscope.store.format import layout
from gradscope.store.format.assembly import GroupPlan, RecordingPlan, plan, read_block
from gradscope.store.format.contents import FileContents, one_error, open_file, read_contents
from gradscope.store.format.segments import (
    PART_SUFFIX,
    finished_path,
    list_segments,
    part_folder,
)

Places = slice | np.ndarray
_ATTEMPTS = 20


class RecordingSource:
    """A recording on disk: its plan and its files, which are opened on demand.

    While a run is in progress, its writer merges older segments. The rows are then in other files,
    and the plan is made again.

    Raises
    ------
    FileNotFoundError
        If there is neither the finished file nor a segment.
    RecordingError
        If a file is damaged.
    """

    def __init__(
        self, path: Path, groups: tuple[str, ...] | None = None, *, has_attrs: bool = True
    ) -> None:
        self.path = finished_path(path)
        self._given = path
        self._groups, self._has_attrs = groups, has_attrs
        self._managers: dict[Path, CachingFileManager[h5py.File]] = {}
        self.plan = self._make_plan()

    def _make_plan(self) -> RecordingPlan:
        for attempt in range(_ATTEMPTS):
            try:
                paths = files_of(self._given)
                return plan([self._contents(path) for path in paths])
            except FileNotFoundError:
                if attempt + 1 == _ATTEMPTS or not files_of(self._given):
                    raise
        raise AssertionError("unreachable")

    def _contents(self, path: Path) -> FileContents:
        return read_contents(path, self._groups, has_attrs=self._has_attrs)

    def read(self, group: str, variable: str, index: tuple[Places, ...]) -> np.ndarray:
        """Read a block in the dtype of the file."""
        known = self.plan.groups[group]
        for _ in range(_ATTEMPTS):
            try:
                with one_error(self.path):
                    return read_block(self.plan.groups[group], variable, index, self._open)
            except (FileNotFoundError, RecordingError) as error:
                if not _is_gone(error):
                    raise
                self._follow(group, known)
        raise RecordingError(f"{self.path} changes faster than it can be read")

    def _follow(self, group: str, known: GroupPlan) -> None:
        """Plan again; existing rows must keep their positions."""
        self.close()
        self.plan = self._make_plan()
        now = self.plan.groups.get(group)
        if now is None or not np.array_equal(now.rows[: len(known.rows)], known.rows):
            raise RecordingError(f"{self.path} was replaced while it was read; open it again")
        same = all(np.array_equal(now.axes[d].labels, a.labels) for d, a in known.axes.items())
        if not same:
            raise RecordingError(f"{self.path} gained parameters while it was read; open it again")

    def _open(self, path: Path) -> h5py.File:
        manager = self._managers.get(path)
        if manager is None:  # of two threads the first wins: a manager that is dropped closes
            manager = self._managers.setdefault(path, CachingFileManager(open_file, path))
        return manager.acquire()

    def close(self) -> None:
        """Close the files; they are opened again on demand."""
        for manager in self._managers.values():
            manager.close()
        self._managers.clear()


def files_of(path: Path) -> list[Path]:
    """Return the finished file, or the segments if there is none.

    The folder of the segments, named itself, comes first for as long as it is there.
    """
    is_named, path = path.name.endswith(PART_SUFFIX) and path.is_dir(), finished_path(path)
    if path.is_file() and not is_named:
        return [path]
    if path.is_dir() and not is_named:
        raise IsADirectoryError(f"{path} is a folder; name the recording in it")
    paths = [segment.path for segment in list_segments(part_folder(path))]
    if not paths:
        raise FileNotFoundError(f"there is no recording at {path}{_why_not(path)}")
    return paths


def _why_not(path: Path) -> str:
    """Say what is there instead, if anything is."""
    if path.exists():
        return ": it is no regular file"
    if path.is_symlink():
        return ": it is a link that leads nowhere"
    if part_folder(path).is_dir():
        return f": {part_folder(path).name} holds no rows"
    return ""


def _is_gone(error: BaseException) -> bool:
    chain = (error, error.__cause__)
    return any(
        isinstance(e, FileNotFoundError) or getattr(e, "errno", None) == errno.ESTALE for e in chain
    )


class RecordedArray(BackendArray):
    """A stored or derived variable of a recording, indexed by position."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, index: tuple[Places, ...]) -> np.ndarray:
        """Read a block: one slice or array of positions for each dimension."""
        raise NotImplementedError

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._get
        )

    def _get(self, key: tuple[Any, ...]) -> np.ndarray:
        index = tuple(_as_places(k, n) for k, n in zip(key, self.shape, strict=True))
        return self.read(index)[tuple(0 if _is_scalar(k) else slice(None) for k in key)]


def _is_scalar(key: Any) -> bool:
    return not isinstance(key, slice) and np.ndim(key) == 0


def _as_places(key: Any, length: int) -> Places:
    if isinstance(key, slice):
        return key
    places = np.atleast_1d(key)
    return np.where(places < 0, places + length, places)


class StoredArray(RecordedArray):
    """A stored variable; missing counts become NaN, as xarray decodes them."""

    def __init__(self, source: RecordingSource, group: str, variable: str) -> None:
        self._source, self._group, self._variable = source, group, variable
        known = source.plan.groups[group]
        self.shape = known.shape(variable)
        self.stored_dtype = layout.numpy_dtype(known.variables[variable])
        self.dtype = decoded_dtype(self.stored_dtype)

    def read(self, index: tuple[Places, ...]) -> np.ndarray:
        """Read a block, missing as NaN."""
        # Positions instead of slices, because a run in progress may have more rows by now.
        places = tuple(np.arange(n)[i] for i, n in zip(index, self.shape, strict=True))
        block = self._source.read(self._group, self._variable, places)
        if block.dtype.kind == "f":
            return block
        decoded = block.astype(self.dtype)
        decoded[block == layout.missing(block.dtype)] = np.nan
        return decoded


def decoded_dtype(dtype: np.dtype) -> np.dtype:
    """Return the float dtype for an integer with NaN, as chosen by xarray."""
    if dtype.kind == "f":
        return dtype
    return np.dtype("float32" if dtype.itemsize <= 2 else "float64")


class MappedArray(RecordedArray):
    """Another array with reordered rows and columns: position i is ``places[i]``, -1 is missing."""

    def __init__(self, array: RecordedArray, places: tuple[np.ndarray | None, ...]) -> None:
        self._array, self._places = array, places
        pairs = zip(places, array.shape, strict=True)
        self.shape = tuple(n if p is None else len(p) for p, n in pairs)
        self.dtype = array.dtype

    def read(self, index: tuple[Places, ...]) -> np.ndarray:
        """Read the existing entries; the others are NaN."""
        inner = [
            np.arange(n)[i] if p is None else p[i]
            for i, p, n in zip(index, self._places, self.shape, strict=True)
        ]
        there = [np.flatnonzero(i >= 0) for i in inner]
        block = np.full([len(i) for i in inner], np.nan, self.dtype)
        if all(len(t) for t in there):
            block[np.ix_(*there)] = self._array.read(
                tuple(i[t] for i, t in zip(inner, there, strict=True))
            )
        return block


class ColumnArray(RecordedArray):
    """A coordinate of ``param``, the same in every row."""

    def __init__(self, values: np.ndarray, n_rows: int) -> None:
        self._values = np.where(values < 0, np.nan, values)
        self.shape, self.dtype = (n_rows, len(values)), self._values.dtype

    def read(self, index: tuple[Places, ...]) -> np.ndarray:
        """Return one row for broadcasting."""
        return self._values[index[1]][None, :]


class DerivedArray(RecordedArray):
    """A variable computed from others of the same shape when it is read."""

    def __init__(self, name: str, inputs: tuple[RecordedArray, ...]) -> None:
        self._name, self._inputs = name, inputs
        self.shape = inputs[0].shape
        self.dtype = np.dtype("float32")

    def read(self, index: tuple[Places, ...]) -> np.ndarray:
        """Compute a block."""
        blocks = [array.read(index).astype(np.float64) for array in self._inputs]
        with np.errstate(over="ignore"):
            return compute(self._name, *blocks).astype(self.dtype)

"""Merge of segments into one aligned and compressed file, with constant memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gradscope.store.format import layout
from gradscope.store.format.assembly import GroupPlan, OpenFile, RecordingPlan, plan, read_block
from gradscope.store.format.contents import one_error, open_file, read_contents
from gradscope.store.format.layout import Axis
from gradscope.store.format.segments import publish

BLOCK_BYTES = 2 * 1024 * 1024


def merge_files(
    paths: Iterable[Path],
    target: Path,
    *,
    attrs: dict[str, Any] | None = None,
    resume_step: int | None = None,
    is_packed: bool = True,
    is_new: bool = False,
) -> int:
    """Merge files into one; return its size in bytes.

    Parameters
    ----------
    paths : iterable of Path
        Segments, the oldest first. They are not changed.
    target : Path
        File to write. It appears only when it is complete.
    attrs : dict, optional
        Root attributes to change.
    resume_step : int, optional
        Rows beyond this step are dropped.
    is_packed : bool, default True
        Whether to compress, as for a finished file. Segments that will be merged again are not
        compressed.
    is_new : bool, default False
        Whether ``target`` may not be there yet.

    Raises
    ------
    FileExistsError
        If it is there.
    RecordingError
        If a segment is damaged.
    OSError
        If the disk is full or the folder is missing. No partial file remains.
    """
    paths = list(paths)
    # Attributes of variables come from the last file or the schema, so the others are not read.
    files = (read_contents(path, has_attrs=path == paths[-1]) for path in paths)
    merged = plan(list(files), resume_step)
    return publish(target, lambda f: _write(f, merged, attrs or {}, is_packed), is_new=is_new)


def _write(file: h5py.File, merged: RecordingPlan, attrs: dict[str, Any], is_packed: bool) -> None:
    with _open_files() as opened:
        layout.write_attributes(file, merged.attrs | attrs)
        for group in merged.groups.values():
            _write_group(file, group, opened, is_packed)


@contextlib.contextmanager
def _open_files() -> Iterator[OpenFile]:
    """Return open files by path, and close them all at the end."""
    with contextlib.ExitStack() as stack:
        opened: dict[Path, h5py.File] = {}

        def get(path: Path) -> h5py.File:
            if path not in opened:
                opened[path] = stack.enter_context(open_file(path))
            return opened[path]

        yield get


def _write_group(file: h5py.File, group: GroupPlan, opened: OpenFile, is_packed: bool) -> None:
    target = file.require_group(group.name)
    row_dim = layout.row_dim(group.name)
    layout.write_axis(target, Axis(row_dim, {row_dim: group.rows}))
    for axis in group.axes.values():
        layout.write_axis(target, axis)
    for name, variable in group.variables.items():
        shape = group.shape(name)
        declaration = replace(variable, name=name)
        attrs = group.attrs.get(name)
        dataset = layout.create_variable(
            target, declaration, shape, attrs=attrs, is_packed=is_packed
        )
        for block in _blocks(shape, dataset.dtype.itemsize):
            dataset[block] = _read(group, name, block, opened)


def _read(group: GroupPlan, name: str, block: tuple[slice, ...], opened: OpenFile) -> np.ndarray:
    with one_error(group.pieces[0].path.parent):
        return read_block(group, name, block, opened)


def _blocks(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Split an array along chunk boundaries into blocks of bounded size."""
    if 0 in shape:
        return
    chunks = layout.chunk_shape(shape, itemsize)
    if len(shape) == 1:
        rows = max(1, BLOCK_BYTES // (itemsize * chunks[0])) * chunks[0]
        yield from ((slice(r, min(r + rows, shape[0])),) for r in range(0, shape[0], rows))
        return
    row_of_chunks = itemsize * chunks[0] * int(np.prod(shape[2:], dtype=np.int64))
    columns = max(1, BLOCK_BYTES // (row_of_chunks * chunks[1])) * chunks[1]
    rest = tuple(slice(0, n) for n in shape[2:])
    for r in range(0, shape[0], chunks[0]):
        for c in range(0, shape[1], columns):
            last = min(r + chunks[0], shape[0])
            yield (slice(r, last), slice(c, min(c + columns, shape[1])), *rest)

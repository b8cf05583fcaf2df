"""Validation of a recording against the format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from gradscope import schema
from gradscope.errors import RecordingError
from gradscope.store.format import layout
from gradscope.store.format.assembly import plan
from gradscope.store.format.contents import (
    FileContents,
    GroupContents,
    one_error,
    open_file,
    read_contents,
)
from gradscope.store.format.segments import finished_path, list_segments, part_folder
from gradscope.store.read.lazy import files_of

_ROWS = 4096
ROUNDING = 1e-6
"""How far a float may lie beyond its bounds; zero is exact."""


def violations(path: str | os.PathLike[str]) -> list[str]:
    """Return all violations of the format, one line each; an empty list if there are none.

    All data are read, so that the checksums of the file detect damage anywhere.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    """
    finished = finished_path(path)
    found, sound = [], []
    for file in files_of(finished):
        try:
            contents = read_contents(file)
            found += [f"{file.name}: {line}" for line in _of_file(contents)]
            sound.append(contents)
        except (RecordingError, OSError) as error:
            found.append(str(error))
    try:
        plan(sound)
    except RecordingError as error:
        found.append(str(error))
    if not finished.exists():
        found += _of_segments(finished)
    return found


def rows_readable(contents: FileContents) -> None:
    """Read all data once.

    Raises
    ------
    RecordingError
        If a checksum does not match.
    """
    with one_error(contents.path), open_file(contents.path) as file:
        for group in contents.groups.values():
            for variable in group.variables:
                dataset = file[f"{group.home}/{variable}"]
                for start in range(0, dataset.shape[0], _ROWS):
                    dataset[start : start + _ROWS]


def _of_segments(path: Path) -> Iterator[str]:
    segments = list_segments(part_folder(path))
    expected = 1
    for segment in segments:
        if segment.first != expected:
            yield f"segments {expected} to {segment.first - 1} are missing in {part_folder(path)}"
        expected = segment.last + 1


def _of_file(contents: FileContents) -> Iterator[str]:
    yield from _of_attributes(contents)
    with open_file(contents.path) as file:
        yield from _of_root(file)
        for name, group in contents.groups.items():
            for dim in dict.fromkeys(d for v in group.variables.values() for d in v.dims[1:]):
                if dim not in group.axes:
                    yield f"/{name} has no {dim}"
            for variable, declaration in group.variables.items():
                try:
                    with one_error(contents.path):
                        dataset = file[f"{group.home}/{variable}"]
                        yield from _of_variable(dataset, group, declaration)
                except RecordingError as error:
                    yield f"/{name}/{variable} cannot be read: {error}"


def _of_attributes(contents: FileContents) -> Iterator[str]:
    for needed in ("status", "is_complete", "created_at"):
        if needed not in contents.attrs:
            yield f"root attribute {needed} is missing"
    status = contents.attrs.get("status", "running")
    if status not in schema.STATUSES:
        yield f"status is {status!r}; it may be {', '.join(schema.STATUSES)}"
    for name in contents.attrs:
        if name not in schema.ROOT_ATTRIBUTES:
            yield f"root attribute {name} is not declared"


def _of_root(file: h5py.File) -> Iterator[str]:
    today = {former: name for name, former in schema.FORMER_NAMES.items()}
    for name in file:
        if today.get(name, name) not in schema.GROUPS:
            yield f"/{name} is not declared"
            continue
        group, known = file[name], layout.declared_group(today.get(name, name))
        if not isinstance(group, h5py.Group):
            yield f"/{name} is not a group"
            continue
        named = {known.dims[0], *_along(known.name)}
        children = {*schema.GROUPS, *today} if name == "spikes" else ()
        for key in group:
            if not (key in named or key in known.variables or key in children or known.is_open):
                yield f"/{name}/{key} is not declared"


def _along(group: str) -> Iterator[str]:
    for dim in layout.column_dims(group):
        yield from layout.coordinates_of(dim)


def _of_variable(
    dataset: h5py.Dataset, group: GroupContents, declaration: schema.Variable
) -> Iterator[str]:
    where = f"/{group.name}/{declaration.name}"
    expected = layout.numpy_dtype(layout.declared(group.name, declaration.name))
    if dataset.dtype != expected:
        yield f"{where} has dtype {dataset.dtype}, declared is {expected}"
    if "_FillValue" not in dataset.attrs:
        yield f"{where} has no _FillValue"
    for axis, dim in enumerate(declaration.dims):
        scales = [scale.name for scale in dataset.dims[axis].values()]
        if f"/{group.home}/{dim}" not in scales:
            yield f"{where}: {dim} is not attached to axis {axis}"
    low, high = declaration.bounds
    for start in range(0, dataset.shape[0], _ROWS):
        block = dataset[start : start + _ROWS]
        known = ~np.isnan(block) if block.dtype.kind == "f" else block != -1
        slack = ROUNDING if block.dtype.kind == "f" else 0
        if np.any(known & ((block < low - (low != 0) * slack) | (block > high + slack))):
            yield f"{where} holds values outside {low:g} to {high:g}"
            return

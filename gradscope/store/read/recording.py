"""Open a recording, finished or still being written, as a labelled tree."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from gradscope import schema
from gradscope.derived.variables import inputs_of
from gradscope.store.format import layout
from gradscope.store.format.assembly import GroupPlan, RecordingPlan
from gradscope.store.format.segments import PART_SUFFIX, finished_path
from gradscope.store.read.lazy import (
    ColumnArray,
    DerivedArray,
    MappedArray,
    RecordedArray,
    RecordingSource,
    StoredArray,
)

__all__ = ["latest", "open_recording"]


def open_recording(
    path: str | os.PathLike[str], *, groups: tuple[str, ...] | None = None
) -> xr.DataTree:
    """Open a recording as a lazy DataTree.

    Parameters
    ----------
    path : path-like
        The file, ``run.h5``. While it is being written, and after a crash, the segments in
        ``run.h5.part/`` are read instead. Open the recording again to see new rows.
    groups : tuple of str, optional
        Groups to open; all by default.

    Returns
    -------
    DataTree
        One node per group, with dims (step, param), (step, layer), …. Missing values are NaN.
        Derived variables (`gradscope.schema.DERIVED`) are added if their inputs were recorded.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    RecordingError
        If it is damaged, is not a recording, or has a newer schema version.
    """
    source = RecordingSource(Path(path), groups)
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs=source.plan.attrs)}
    for name in source.plan.groups:
        nodes["/" + name] = _dataset(source, name)
    if "/spikes" not in nodes and any(name.startswith("/spikes/") for name in nodes):
        nodes["/spikes"] = xr.Dataset()
    tree = xr.DataTree.from_dict(nodes)
    tree.encoding = {"source": str(source.path)}
    tree.set_close(source.close)
    return tree


def latest(folder: str | os.PathLike[str] = "runs") -> Path:
    """Return the most recently written recording in a folder or its subfolders.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    """
    found = {
        finished_path(path): path.stat().st_mtime
        for pattern in ("*.h5", "*.h5" + PART_SUFFIX)
        for path in sorted(Path(folder).rglob(pattern))
        if not path.parent.name.endswith(PART_SUFFIX)
    }
    if not found:
        raise FileNotFoundError(f"there is no recording in {folder}")
    return max(found, key=lambda path: found[path])


def _dataset(source: RecordingSource, name: str) -> xr.Dataset:
    group = source.plan.groups[name]
    variables = {key: _lazy(*found) for key, found in arrays_of(source, name).items()}
    # Coordinates are built first, because a Dataset that builds them itself aligns them twice.
    return xr.Dataset(variables, coords=xr.Coordinates(coordinates_of(group)))


def arrays_of(
    source: RecordingSource, name: str
) -> dict[str, tuple[schema.Variable, RecordedArray, dict[str, Any]]]:
    """Return declaration, array and attributes of every stored and derived variable of a group."""
    group = source.plan.groups[name]
    found: dict[str, tuple[schema.Variable, RecordedArray, dict[str, Any]]] = {}
    custom = _custom_attrs(source) if name.split("/")[-1] == "custom" else {}
    for key, declaration in group.variables.items():
        attrs = {**(group.attrs.get(key) or declaration.attrs), **custom.get(key, {})}
        found[key] = (declaration, StoredArray(source, name, key), attrs)
    for key, declaration in schema.DERIVED.get(name.split("/")[-1], {}).items():
        derived = derive(source, name, key)
        if derived is not None and key not in found:
            found[key] = (declaration, derived, declaration.attrs)
    return found


def _custom_attrs(source: RecordingSource) -> dict[str, dict[str, str]]:
    """Return the attributes that the user declared for the variables of ``/custom``."""
    try:
        found = json.loads(str(source.plan.attrs.get("custom_json", "{}")))
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _lazy(declaration: schema.Variable, array: RecordedArray, attrs: dict[str, Any]) -> xr.Variable:
    encoding = {}
    if isinstance(array, StoredArray):
        dtype = array.stored_dtype
        encoding = {"dtype": dtype, "_FillValue": layout.missing(dtype)}
    data = indexing.LazilyIndexedArray(array)
    return xr.Variable(declaration.dims, data, attrs, encoding, fastpath=True)


def coordinates_of(group: GroupPlan) -> dict[str, xr.Variable]:
    """Return the labels of rows and columns of a group, with their attributes."""
    row_dim = layout.row_dim(group.name)
    coordinates = {row_dim: xr.Variable(row_dim, group.rows, schema.INDEXES[row_dim].attrs)}
    for axis in group.axes.values():
        known = layout.coordinates_of(axis.dim)
        for name, values in axis.columns.items():
            text = labels_as_text(values)
            coordinates[name] = xr.Variable(axis.dim, text, known[name].attrs)
    return coordinates


def labels_as_text(values: np.ndarray) -> np.ndarray:
    """Return strings as NumPy strings, and numbers unchanged."""
    return values.astype(str) if values.dtype.kind == "O" else values


def derive(source: RecordingSource, group: str, name: str) -> DerivedArray | None:
    """Return a derived variable as a lazy array; None if an input was not recorded."""
    own = source.plan.groups[group]
    if "param" not in own.axes:
        return None
    inputs = [_input(source, own, needed) for needed in inputs_of(name)]
    known = tuple(array for array in inputs if array is not None)
    return DerivedArray(name, known) if len(known) == len(inputs) else None


def _input(source: RecordingSource, own: GroupPlan, name: str) -> RecordedArray | None:
    """Find an input of a formula in the group, its coordinates, or another group."""
    columns = own.axes["param"].columns
    if name in own.variables:
        return StoredArray(source, own.name, name)
    if name in schema.PARAM_COORDINATES:
        return ColumnArray(columns[name], len(own.rows)) if name in columns else None
    other = _group_of(source.plan, own.name, name)
    if other is None:
        return None
    rows = None if np.array_equal(other.rows, own.rows) else row_places(own.rows, other.rows)
    if "param" in other.axes:
        mine, theirs = columns["param"], other.axes["param"].labels
    elif "param_group" in columns:
        mine, theirs = columns["param_group"], other.axes["param_group"].labels
    else:
        return None
    along = None if np.array_equal(mine, theirs) else places(mine, theirs)
    return MappedArray(StoredArray(source, other.name, name), (rows, along))


def _group_of(plan: RecordingPlan, group: str, name: str) -> GroupPlan | None:
    prefix = group.rpartition("/")[0]
    home = schema.find(name)[0]
    for candidate in (f"{prefix}/{home}" if prefix else home, home):
        found = plan.groups.get(candidate)
        if found is not None and name in found.variables:
            return found
    return None


def row_places(wanted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Position of each wanted step among increasing steps; -1 if it is missing."""
    at = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return np.where(rows[at] == wanted, at, -1)


def places(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Position of each label among ``others``; -1 if it is missing."""
    index = {label: i for i, label in enumerate(others.tolist())}
    return np.array([index.get(label, -1) for label in labels.tolist()], dtype=np.int64)

"""Layout of a recording in an HDF5 file: datasets, scales, attributes and chunks.

Segments and finished files share this layout. It follows the netCDF-4 conventions: each dimension
of a group is a dataset of the same name, a dimension scale attached to every array along it.
Strings have a fixed length, because variable-length strings are stored in HDF5's global heap. The
heap has no checksum, and a flipped bit in it can hang the library.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from gradscope import schema
from gradscope.store.format.h5objects import attach_scale, create_array, write_attribute

FORMAT = ("v110", "v110")
"""Version of the HDF5 file format: checksums over its metadata, readable since HDF5 1.10 (2016)."""

CHUNK_BYTES = 256 * 1024
CHUNK_COLUMNS = 16
LONG_AXIS = 1024
"""Rows from which an index is compressed."""

TEXT: np.dtype = h5py.string_dtype("utf-8")


@dataclass(frozen=True, eq=False)
class Axis:
    """The labels of one dimension: its index and the coordinates along it, by name."""

    dim: str
    columns: dict[str, np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        """Values of the index."""
        return self.columns[self.dim]

    def __len__(self) -> int:
        return len(self.labels)


def declared(group: str, name: str) -> schema.Variable:
    """Return the declaration of a variable; undeclared variables of open groups get a default.

    Raises
    ------
    ValueError
        If the schema does not declare the name and the group is not open.
    """
    base = declared_group(group)
    if name in base.variables:
        return base.variables[name]
    if not base.is_open:
        raise ValueError(
            f"group {group!r} has no variable {name!r}; declared are {', '.join(base.variables)}"
        )
    return schema.Variable(name=name, dims=base.dims, long_name=name, dtype="float64")


def declared_group(group: str) -> schema.Group:
    """Return the declaration of a group; ``spikes/gradients`` has that of ``gradients``."""
    parent, _, base = group.rpartition("/")
    if base not in schema.GROUPS or parent not in ("", "spikes") or (parent and base == "spikes"):
        raise ValueError(f"unknown group {group!r}; known are {', '.join(schema.GROUPS)}")
    return schema.GROUPS[base]


def row_dim(group: str) -> str:
    """Return the dimension along which a group grows: ``step``, or ``event``."""
    return declared_group(group).dims[0]


@functools.cache
def column_dims(group: str) -> tuple[str, ...]:
    """Return the other dimensions that variables of a group may have."""
    base = declared_group(group)
    dims = dict.fromkeys([*base.dims, *(dim for v in base.variables.values() for dim in v.dims)])
    return tuple(dim for dim in dims if dim != base.dims[0])


def coordinates_of(dim: str) -> dict[str, schema.Variable]:
    """Return the names allowed along a dimension: its index first, then its coordinates."""
    more = {"param": schema.PARAM_COORDINATES, "layer": schema.LAYER_COORDINATES}
    return {dim: schema.INDEXES[dim], **more.get(dim, {})}


def default_labels(dim: str, length: int) -> np.ndarray:
    """Return labels of a dimension without: log2 exponents for bins, numbers otherwise.

    Raises
    ------
    ValueError
        If its labels are names.
    """
    if dim in ("param", "layer"):
        raise ValueError(f"call set_axis({dim!r}, …) before rows along it")
    first = {"grad_bin": schema.GRAD_BIN_RANGE[0], "moment_bin": schema.MOMENT_BIN_RANGE[0]}
    return np.arange(length) + first.get(dim, 0)


def numpy_dtype(variable: schema.Variable) -> np.dtype:
    """Return the dtype in the file: int8 for booleans; strings get their length when written."""
    if variable.dtype == "str":
        return TEXT
    return np.dtype("int8" if variable.dtype == "bool" else variable.dtype)


def missing(dtype: np.dtype) -> Any:
    """Return the fill value of a missing entry: NaN, -1 or the empty string."""
    if dtype.kind == "O":
        return ""
    return dtype.type(np.nan if dtype.kind == "f" else -1)


def as_attribute(value: Any) -> Any:
    """Convert ``value`` for HDF5; dicts become JSON and booleans integers."""
    if isinstance(value, dict):
        value = json.dumps(value)
    if isinstance(value, str):
        return _fixed_text(value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return _fixed_text(json.dumps(list(value)))
    if isinstance(value, bool | np.bool_):
        return int(value)
    return value


def _as_fixed(texts: np.ndarray) -> np.ndarray:
    data = [_encoded(text) for text in texts.tolist()]
    length = max([1, *map(len, data)])
    return np.array(data, dtype=h5py.string_dtype("utf-8", length))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace").replace(b"\x00", b" ")


@functools.lru_cache(maxsize=1024)  # a few hundred strings, the same in every segment
def _fixed_text(text: str) -> np.ndarray:
    data = _encoded(text)
    return np.array(data, dtype=h5py.string_dtype("utf-8", max(1, len(data))))


def write_attributes(target: Any, attrs: Mapping[str, Any]) -> None:
    """Write attributes one by one; ``None`` is skipped."""
    for name, value in attrs.items():
        if value is not None:
            write_attribute(target, name, np.asarray(as_attribute(value)))


def write_axis(group: h5py.Group, axis: Axis) -> None:
    """Write the index of a dimension as its scale, and the coordinates along it."""
    for name, declaration in coordinates_of(axis.dim).items():
        if name not in axis.columns:
            continue
        values = np.asarray(axis.columns[name])
        stored = _as_fixed(values) if declaration.dtype == "str" else values
        chunks = chunk_shape(stored.shape, stored.itemsize) if len(stored) >= LONG_AXIS else None
        dataset = create_array(group, name, stored.shape, stored.dtype, data=stored, chunks=chunks)
        write_attributes(dataset, declaration.attrs)
        if declaration.dtype == "str":
            write_attributes(dataset, {"_Encoding": "utf-8"})
        if name == axis.dim:
            dataset.make_scale(name)
        else:
            attach_scale(dataset, 0, group, axis.dim)
    beside = [name for name in axis.columns if name != axis.dim]
    if beside:
        known = group.attrs.get("coordinates", "")
        write_attributes(group, {"coordinates": " ".join([*known.split(), *beside])})


def write_group(
    file: h5py.File,
    name: str,
    arrays: Mapping[str, np.ndarray],
    axes: Mapping[str, Axis],
    *,
    is_packed: bool = False,
) -> None:
    """Write one group: its rows, axes and variables; see `create_variable`."""
    group = file.require_group(name)
    rows = row_dim(name)
    write_axis(group, Axis(rows, {rows: arrays[rows]}))
    variables = [declared(name, variable) for variable in arrays if variable != rows]
    for dim in column_dims(name):
        if any(dim in variable.dims for variable in variables):
            write_axis(group, axes[dim])
    for variable in variables:
        values = arrays[variable.name]
        create_variable(group, variable, values.shape, data=values, is_packed=is_packed)


def create_variable(
    group: h5py.Group,
    variable: schema.Variable,
    shape: tuple[int, ...],
    *,
    data: np.ndarray | None = None,
    attrs: Mapping[str, Any] | None = None,
    is_packed: bool = False,
) -> h5py.Dataset:
    """Create one array with its attributes and scales; without ``data`` it is left unfilled.

    Attributes are those of the declaration, and ``attrs`` beside or instead of them. Segments are
    stored uncompressed, which is fast. Finished files are packed: chunked, shuffled, deflated and
    checksummed.
    """
    dtype = numpy_dtype(variable)
    fill = missing(dtype) if is_packed else None
    chunks = chunk_shape(shape, dtype.itemsize) if is_packed and 0 not in shape else None
    dataset = create_array(group, variable.name, shape, dtype, data=data, fill=fill, chunks=chunks)
    own: dict[str, Any] = {**variable.attrs, "_FillValue": missing(dtype)}
    if variable.source_attribute:
        own["source"] = group.file.attrs.get(variable.source_attribute)
    if variable.dtype == "bool":  # not dtype="bool": xarray would read missing as true
        own |= {"flag_values": np.array([0, 1], "int8"), "flag_meanings": "false true"}
    write_attributes(dataset, {**own, **(attrs or {})})
    for i, name in enumerate(variable.dims):
        attach_scale(dataset, i, group, name)
    return dataset


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return chunks of about 256 KiB, long in time and narrow across parameters."""
    columns = min(CHUNK_COLUMNS if len(shape) == 2 else 4, shape[1]) if len(shape) > 1 else 1
    row_bytes = itemsize * columns * int(np.prod(shape[2:], dtype=np.int64))
    rows = max(1, min(shape[0], CHUNK_BYTES // row_bytes))
    return (rows, *((columns,) if len(shape) > 1 else ()), *shape[2:])

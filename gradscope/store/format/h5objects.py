"""Access to groups, datasets and attributes through the low-level HDF5 API.

Opening a recording reads, and writing a segment creates, several hundred datasets and attributes.
The high-level mappings of h5py are several times slower for this.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import h5py
import numpy as np

from gradscope.errors import RecordingError

MAX_MEMBERS = 65_536
"""Names in a group beyond which a file is no recording, so that a foreign one takes no minutes."""

SMALL_BYTES = 2048
"""Up to here an array lies in the header of its object: quicker to write, and checksummed."""

DEFLATE_LEVEL = 4
_OF_HDF5 = {b"CLASS", b"NAME", b"DIMENSION_LIST", b"REFERENCE_LIST"}
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT)

Object = TypeVar("Object", h5py.Group, h5py.Dataset)


def hard_links(group: h5py.Group) -> list[str]:
    """Return the names in a group, sorted; soft and external links are not followed.

    Raises
    ------
    RecordingError
        If there are more names than any recording has.
    """
    if len(group) > MAX_MEMBERS:
        raise RecordingError(f"{group.name} holds {len(group):,} names; that is no recording")
    names: list[bytes] = []

    def add(name: bytes, info: Any) -> None:
        if info.type == h5py.h5l.TYPE_HARD:
            names.append(name)

    group.id.links.iterate(add, info=True)
    return [name.decode("utf-8", "surrogateescape") for name in names]


def open_member(group: h5py.Group, name: str, kind: type[Object]) -> Object | None:
    """Open the target of a hard link; None if it is of another kind."""
    found = h5py.h5o.open(group.id, name.encode("utf-8", "surrogateescape"))
    wanted = h5py.h5g.GroupID if kind is h5py.Group else h5py.h5d.DatasetID
    return kind(found) if isinstance(found, wanted) else None


def read_whole(dataset: h5py.Dataset, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Read a whole dataset with known shape and dtype."""
    values = np.empty(shape, dtype)
    if values.size:
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def read_attributes(target: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """Return the attributes of a group or variable that are strings or numbers.

    Variable-length strings are skipped, because they are stored in the global heap, which has no
    checksum.
    """
    names: list[bytes] = []
    h5py.h5a.iterate(target.id, names.append)
    attrs = {}
    for name in names:
        if name not in _OF_HDF5 and not name.startswith(b"_"):
            value = _attribute(h5py.h5a.open(target.id, name))
            if value is not None:
                attrs[name.decode("utf-8", "surrogateescape")] = value
    return attrs


def _attribute(attribute: h5py.h5a.AttrID) -> Any:
    """Read a number, an array of numbers or a fixed-length string; None for anything else."""
    stored = attribute.get_type()
    if isinstance(stored, h5py.h5t.TypeStringID):
        is_one = attribute.get_storage_size() == stored.get_size()
        return _text(attribute, stored) if is_one and not stored.is_variable_str() else None
    if stored.get_class() not in _NUMBERS:
        return None
    value = np.zeros(attribute.shape, attribute.dtype)
    attribute.read(value)
    return value if value.shape else value.item()


def _text(attribute: h5py.h5a.AttrID, stored: h5py.h5t.TypeStringID) -> str:
    text = np.zeros((), f"S{stored.get_size()}")
    attribute.read(text, mtype=stored)
    stored_bytes: bytes = text.item()
    return stored_bytes.decode("utf-8", "replace")


def write_attribute(target: h5py.Group | h5py.Dataset, name: str, value: np.ndarray) -> None:
    """Write one attribute, replacing an existing one."""
    key, kind = name.encode(), _type_of(value.dtype)
    space = h5py.h5s.create_simple(value.shape) if value.shape else _scalar()
    if h5py.h5a.exists(target.id, key):
        h5py.h5a.delete(target.id, key)
    h5py.h5a.create(target.id, key, kind, space).write(value, mtype=kind)


@functools.lru_cache(maxsize=1024)
def _type_of(dtype: np.dtype) -> h5py.h5t.TypeID:
    return h5py.h5t.py_create(dtype, logical=True)


@functools.cache
def _scalar() -> h5py.h5s.SpaceID:
    return h5py.h5s.create(h5py.h5s.SCALAR)


def create_array(
    group: h5py.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    data: np.ndarray | None = None,
    fill: Any = None,
    chunks: tuple[int, ...] | None = None,
) -> h5py.Dataset:
    """Create an array of numbers or fixed-length strings; without ``data`` it is left unfilled.

    With ``chunks`` it is stored in these, shuffled, deflated and checksummed, unless it is small.
    """
    kind, space = _type_of(dtype), h5py.h5s.create_simple(shape)
    is_small = 0 < space.get_select_npoints() * dtype.itemsize <= SMALL_BYTES
    filler = None if fill is None else np.asarray(fill, dtype).tobytes()
    properties = _properties(dtype, filler, None if is_small else chunks, is_small)
    created = h5py.h5d.create(group.id, name.encode(), kind, space, properties, _utf8_links())
    if data is not None and data.size:
        values = np.asarray(data, dtype, order="C")
        created.write(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=kind)
    return h5py.Dataset(created)


@functools.lru_cache(maxsize=1024)
def _properties(
    dtype: np.dtype, fill: bytes | None, chunks: tuple[int, ...] | None, is_small: bool
) -> h5py.h5p.PropDCID:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    if fill is not None:
        properties.set_fill_value(np.frombuffer(fill, dtype).reshape(()))
    if is_small:
        properties.set_layout(h5py.h5d.COMPACT)
    elif chunks is not None:
        properties.set_chunk(chunks)
        properties.set_shuffle()
        properties.set_deflate(DEFLATE_LEVEL)
        properties.set_fletcher32()
    return properties


@functools.cache
def _utf8_links() -> h5py.h5p.PropLCID:
    properties = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    properties.set_char_encoding(h5py.h5t.CSET_UTF8)
    return properties


def attach_scale(dataset: h5py.Dataset, axis: int, group: h5py.Group, name: str) -> None:
    """Attach a dimension scale of the group to an axis of an array."""
    h5py.h5ds.attach_scale(dataset.id, h5py.h5o.open(group.id, name.encode()), axis)

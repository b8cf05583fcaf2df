"""Export of a recording to netCDF, Zarr, CSV and TensorBoard."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from gradscope import schema
from gradscope.errors import RecordingExistsError, UsageError, imports_of_extra, unknown
from gradscope.store.maintain.export_tensorboard import to_tensorboard
from gradscope.store.read.recording import open_recording

_ROWS = 512


def export(path: str | os.PathLike[str], target: str | os.PathLike[str], to: str) -> Path:
    """Write a recording with its derived variables in another format.

    Parameters
    ----------
    path : path-like
        The recording, finished or not.
    target : path-like
        A new file (netcdf) or folder (zarr, csv, tensorboard).
    to : {"netcdf", "zarr", "csv", "tensorboard"}

    Raises
    ------
    RecordingExistsError
        If ``target`` exists.
    UsageError
        If the format is unknown.
    MissingPackageError
        If the package of the format is not installed.
    """
    if to not in FORMATS:
        raise UsageError(unknown("format", to, FORMATS))
    goal = Path(target)
    if goal.exists():
        raise RecordingExistsError(f"{goal} exists; choose another name")
    if to in ("zarr", "tensorboard"):
        with imports_of_extra(to):
            importlib.import_module(to)
    tree = open_recording(path)
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        FORMATS[to](tree, goal)
    finally:
        tree.close()
    return goal


def _to_netcdf(tree: xr.DataTree, target: Path) -> None:
    tree.to_netcdf(target, engine="h5netcdf")


def _to_zarr(tree: xr.DataTree, target: Path) -> None:
    tree.map_over_datasets(_for_zarr).to_zarr(target, consolidated=False)


def _for_zarr(dataset: xr.Dataset) -> xr.Dataset:
    """Drop HDF5's encoding and use variable-length strings, which Zarr 3 specifies."""
    texts = {name: c.astype(object) for name, c in dataset.coords.items() if c.dtype.kind == "U"}
    return dataset.drop_encoding().assign_coords(texts)


def _to_csv(tree: xr.DataTree, target: Path) -> None:
    """Write one table per group, and a second one for variables with other dimensions."""
    target.mkdir()
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        usual = schema.GROUPS[node.name].dims if node.name in schema.GROUPS else ()
        for dims, names in _by_dims(dataset).items():
            stem = node.path.strip("/").replace("/", ".")
            more = "" if dims == usual else "".join(f".{dim}" for dim in dims[1:])
            _write_table(dataset[names], dims, target / f"{stem}{more}.csv")


def _by_dims(dataset: xr.Dataset) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for name, values in dataset.data_vars.items():
        found.setdefault(tuple(map(str, values.dims)), []).append(str(name))
    return found


def _write_table(dataset: xr.Dataset, dims: tuple[str, ...], file: Path) -> None:
    plain = dataset.drop_vars([name for name in dataset.coords if name not in dims])
    for start in range(0, dataset.sizes[dims[0]], _ROWS):
        rows = plain.isel({dims[0]: slice(start, start + _ROWS)})
        frame = rows.to_dataframe(dim_order=list(dims)).reset_index()
        frame.to_csv(file, mode="a", header=start == 0, index=False)


FORMATS: dict[str, Callable[[xr.DataTree, Path], Any]] = {
    "netcdf": _to_netcdf,
    "zarr": _to_zarr,
    "csv": _to_csv,
    "tensorboard": to_tensorboard,
}

"""Export of a recording to netCDF, Zarr, CSV, Parquet and TensorBoard."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from gradscope import schema
from gradscope.errors import RecordingExistsError, UsageError, imports_of_extra, unknown
from gradscope.store.maintain.export_tensorboard import to_tensorboard
from gradscope.store.read.recording import open_recording
from gradscope.store.read.run_attributes import as_text

_ROWS = 512
_PACKAGES = {"zarr": "zarr", "parquet": "pyarrow.parquet", "tensorboard": "tensorboard"}
_TEXT_PATHS = ("parquet", "tensorboard")
"""Formats whose libraries take no path that is not UTF-8."""


def export(path: str | os.PathLike[str], target: str | os.PathLike[str], to: str) -> Path:
    """Write a recording with its derived variables in another format.

    Parameters
    ----------
    path : path-like
        The recording, finished or not.
    target : path-like
        A new file (netcdf) or folder (the others).
    to : {"netcdf", "zarr", "csv", "parquet", "tensorboard"}

    Raises
    ------
    RecordingExistsError
        If ``target`` exists.
    UsageError
        If the format is unknown, or its library cannot write to a path that is no text.
    MissingPackageError
        If the package of the format is not installed.
    """
    if to not in FORMATS:
        raise UsageError(unknown("format", to, FORMATS))
    goal = Path(target)
    if goal.exists():
        raise RecordingExistsError(f"{goal} exists; choose another name")
    if to in _TEXT_PATHS and as_text(str(goal)) != str(goal):
        raise UsageError(
            f"the library of {to} takes no path that is not UTF-8; name another target"
        )
    if to in _PACKAGES:
        with imports_of_extra(to):
            importlib.import_module(_PACKAGES[to])
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
    with warnings.catch_warnings():
        # Format 3 does not specify it yet; readers that do not know it open the store all the same.
        warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
        tree.map_over_datasets(_for_zarr).to_zarr(target, consolidated=True)


def _for_zarr(dataset: xr.Dataset) -> xr.Dataset:
    """Drop HDF5's encoding and use variable-length strings, which Zarr 3 specifies."""
    texts = {name: c.astype(object) for name, c in dataset.coords.items() if c.dtype.kind == "U"}
    return dataset.drop_encoding().assign_coords(texts)


def _to_csv(tree: xr.DataTree, target: Path) -> None:
    """Write one table per group, and a second one for variables with other dimensions."""
    target.mkdir()
    for stem, dataset, dims in _tables(tree):
        for number, frame in enumerate(_frames(dataset, dims)):
            frame.to_csv(target / f"{stem}.csv", mode="a", header=not number, index=False)


def _to_parquet(tree: xr.DataTree, target: Path) -> None:
    """Write the tables of `_to_csv` as Parquet, a row group for some hundred steps."""
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    target.mkdir()
    for stem, dataset, dims in _tables(tree):
        writer = None
        for frame in _frames(dataset, dims):
            table = arrow.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                writer = parquet.ParquetWriter(target / f"{stem}.parquet", table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def _tables(tree: xr.DataTree) -> Iterator[tuple[str, xr.Dataset, tuple[str, ...]]]:
    """Yield name, variables and dimensions of each table."""
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        usual = schema.GROUPS[node.name].dims if node.name in schema.GROUPS else ()
        for dims, names in _by_dims(dataset).items():
            stem = node.path.strip("/").replace("/", ".")
            more = "" if dims == usual else "".join(f".{dim}" for dim in dims[1:])
            yield f"{stem}{more}", dataset[names], dims


def _by_dims(dataset: xr.Dataset) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for name, values in dataset.data_vars.items():
        found.setdefault(tuple(map(str, values.dims)), []).append(str(name))
    return found


def _frames(dataset: xr.Dataset, dims: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """Yield the rows of a table, some hundred steps at a time."""
    plain = dataset.drop_vars([name for name in dataset.coords if name not in dims])
    for start in range(0, dataset.sizes[dims[0]], _ROWS):
        rows = plain.isel({dims[0]: slice(start, start + _ROWS)})
        yield rows.to_dataframe(dim_order=list(dims)).reset_index()


FORMATS: dict[str, Callable[[xr.DataTree, Path], Any]] = {
    "netcdf": _to_netcdf,
    "zarr": _to_zarr,
    "csv": _to_csv,
    "parquet": _to_parquet,
    "tensorboard": to_tensorboard,
}

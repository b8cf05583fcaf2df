"""Many recordings as one lazy tree with a dimension ``run``."""

from __future__ import annotations

import functools
import glob
import importlib.util
import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from gradscope.errors import RecordingError, UsageError, unknown
from gradscope.store.format import layout
from gradscope.store.format.assembly import GroupPlan
from gradscope.store.read.alignment import (
    STEP_RULES,
    NoCommonStepError,
    align_columns,
    align_steps,
    depth_places,
)
from gradscope.store.read.lazy import MappedArray, Places, RecordedArray, RecordingSource
from gradscope.store.read.recording import arrays_of, coordinates_of
from gradscope.store.read.run_attributes import describe_runs, name_runs

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def open_runs(
    paths: Paths,
    groups: Sequence[str] | None = None,
    *,
    steps: str = "equal",
    relative_depth: int | None = None,
) -> xr.DataTree:
    """Open recordings as one tree with a dimension ``run``.

    Parameters
    ----------
    paths : path, glob pattern, or iterable of them
        ``"runs/*.h5"``.
    groups : sequence of str, optional
        Groups to open, as far as any run has them; all by default. Fewer groups are faster with
        hundreds of runs.
    steps : {"equal", "common", "union"}
        Alignment of rows. ``"equal"`` needs runs that recorded the same steps up to their end;
        shorter runs are NaN after their end. ``"common"`` keeps the steps that all runs have, and
        leaves out groups without any, unless ``groups`` names them.
        ``"union"`` keeps the steps that any run has, with NaN elsewhere.
    relative_depth : int, optional
        Align different architectures at this many points from input (0) to output (1). Each point
        takes the nearest weight layer of its run. ``param`` and ``layer`` become
        ``relative_depth``.

    Returns
    -------
    DataTree
        Groups with dims (run, step, …) as dask arrays, one block per run; without dask, a variable
        is read when it is used. Attributes and settings that differ between the runs (alpha, seed,
        …) are coordinates along ``run``, unless a variable of the group has the same name.

    Raises
    ------
    FileNotFoundError
        If nothing matches.
    RecordingError
        If a recording is damaged.
    UsageError
        If the runs cannot be aligned. The message gives the reason and the option to use.
    """
    if steps not in STEP_RULES:
        raise UsageError(unknown("value of steps", steps, STEP_RULES))
    files = find_runs(paths)
    wanted = None if groups is None else tuple(groups)
    sources = [RecordingSource(path, wanted, has_attrs=path == files[0]) for path in files]
    names = name_runs(files)
    common, along_run = describe_runs(files, [source.plan.attrs for source in sources])
    along_run = {"run": xr.Variable("run", np.array(names)), **along_run}
    present = dict.fromkeys(name for source in sources for name in source.plan.groups)
    nodes = {"/": xr.Dataset(coords=along_run, attrs=common)}
    apart: UsageError | None = None
    for name in present:
        if groups is None or name in groups:
            try:
                align = _Alignment(name, sources, names, steps, relative_depth)
            except NoCommonStepError as error:  # as of spikes, or of the evaluation of a killed run
                apart = error
                if groups is None:
                    continue
                raise
            nodes[f"/{name}"] = align.dataset(along_run)
    if apart is not None and len(nodes) == 1:
        raise apart
    if groups and not set(groups) & set(present):
        raise RecordingError(f"no run has the group {' or '.join(sorted(groups))}")
    tree = xr.DataTree.from_dict(nodes)
    tree.encoding = {"sources": [str(source.path) for source in sources]}
    tree.set_close(functools.partial(_close, sources))
    return tree


def _close(sources: list[RecordingSource]) -> None:
    for source in sources:
        source.close()


def find_runs(paths: Paths) -> list[Path]:
    """Return the recordings matched by paths and patterns, each once, sorted within a pattern.

    Raises
    ------
    FileNotFoundError
        If a path or pattern matches nothing.
    """
    patterns = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: dict[Path, None] = {}
    for pattern in [os.fspath(path) for path in patterns]:
        matches = sorted(glob.glob(pattern, recursive=True)) or [pattern]  # noqa: PTH207
        if matches == [pattern] and glob.has_magic(pattern):
            raise FileNotFoundError(f"no recording matches {pattern}")
        found |= dict.fromkeys(map(Path, matches))
    if not found:
        raise FileNotFoundError("no recordings were given")
    return list(found)


class RunsArray(RecordedArray):
    """One variable of many runs, with the run as the first axis; NaN if a run lacks it."""

    def __init__(self, arrays: list[RecordedArray | None], shape: tuple[int, ...]) -> None:
        self._arrays = arrays
        self.shape = (len(arrays), *shape)
        self.dtype = np.result_type(*(a.dtype for a in arrays if a is not None))

    def read(self, index: tuple[Places, ...]) -> np.ndarray:
        """Read a block, run by run."""
        runs = np.arange(len(self._arrays))[index[0]]
        shape = [len(np.arange(n)[i]) for i, n in zip(index[1:], self.shape[1:], strict=True)]
        block = np.full((len(runs), *shape), np.nan, self.dtype)
        for to, run in enumerate(runs):
            array = self._arrays[run]
            if array is not None:
                block[to] = array.read(index[1:])
        return block


class _Alignment:
    """One group of all runs, aligned to common axes."""

    def __init__(
        self,
        name: str,
        sources: list[RecordingSource],
        names: list[str],
        steps: str,
        relative_depth: int | None,
    ) -> None:
        self.name, self.sources = name, sources
        self.row_dim = layout.row_dim(name)
        self.groups: list[GroupPlan | None] = [s.plan.groups.get(name) for s in sources]
        rows = [None if g is None else g.rows for g in self.groups]
        self.rows, row_places = align_steps(name, rows, names, steps)
        self.places: list[dict[str, np.ndarray | None]] = [{self.row_dim: p} for p in row_places]
        self.coordinates: dict[str, xr.Variable] = {}
        self.renamed: dict[str, str] = {}
        for dim in layout.column_dims(name):
            self._align(dim, names, relative_depth)

    def _align(self, dim: str, names: list[str], relative_depth: int | None) -> None:
        axes = [None if g is None else g.axes.get(dim) for g in self.groups]
        if not any(axes):
            return
        if relative_depth is not None and dim in ("param", "layer"):
            self.renamed[dim] = "relative_depth"
            grid = np.linspace(0, 1, relative_depth)
            along = [None if axis is None else depth_places(axis, grid) for axis in axes]
            self.coordinates["relative_depth"] = xr.Variable("relative_depth", grid)
        else:
            columns, along = align_columns(self.name, axes, names)
            self.coordinates |= columns
        for places, own in zip(self.places, along, strict=True):
            places[dim] = own

    def dataset(self, along_run: dict[str, xr.Variable]) -> xr.Dataset:
        """Return the group with its variables as dask arrays."""
        found = [
            {} if group is None else arrays_of(source, self.name)
            for group, source in zip(self.groups, self.sources, strict=True)
        ]
        variables = {
            key: self._variable(key, found) for key in dict.fromkeys(k for f in found for k in f)
        }
        template = next(group for group in self.groups if group is not None)
        row = {
            self.row_dim: (self.row_dim, self.rows, coordinates_of(template)[self.row_dim].attrs)
        }
        taken = {*variables, *self.coordinates, self.row_dim}
        own = {name: values for name, values in along_run.items() if name not in taken}
        return xr.Dataset(variables, coords={**row, **self.coordinates, **own})

    def _variable(self, key: str, found: list[dict[str, Any]]) -> xr.Variable:
        declaration, _, attrs = next(f[key] for f in found if key in f)
        arrays: list[RecordedArray | None] = [
            MappedArray(f[key][1], tuple(places[dim] for dim in declaration.dims))
            if key in f
            else None
            for f, places in zip(found, self.places, strict=True)
        ]
        shape = next(array.shape for array in arrays if array is not None)
        dims = tuple(self.renamed.get(dim, dim) for dim in declaration.dims)
        data = indexing.LazilyIndexedArray(RunsArray(arrays, shape))
        variable = xr.Variable(("run", *dims), data, attrs)
        if importlib.util.find_spec("dask") is None:  # absent, or kept out by the command line
            return variable
        return variable.chunk({"run": 1}, name=f"{key}-{uuid.uuid4().hex}")

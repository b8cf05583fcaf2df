"""Input of the health rules: a recording as arrays with few rows; missing groups are None."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import xarray as xr

from gradscope.derived.optimizers import stepped_at

MAX_ROWS = 400
"""Rows of each layer that a rule reads. Longer recordings are subsampled at a constant stride."""

Array = np.ndarray


class RecordedRun:
    """One recording, or its last rows.

    Parameters
    ----------
    tree : DataTree
        A recording, finished or not; any group may be missing.
    window : int, optional
        Number of last rows of each group to read; all by default. The whole loss and learning rate
        are read in any case.

    Raises
    ------
    ValueError
        If ``tree`` holds several runs, or ``window`` is below 1.
    """

    def __init__(self, tree: xr.DataTree, window: int | None = None) -> None:
        if window is not None and window < 1:
            raise ValueError(f"`window` must be at least 1 row; got {window}")
        if any("run" in node.dims for node in tree.children.values()):
            raise ValueError("health is told of one run; select one with .isel(run=0)")
        self._tree, self.window = tree, window
        self._cache: dict[tuple[str, str, str], Array | None] = {}
        self.attrs = tree.attrs

    def _dataset(self, group: str) -> xr.Dataset:
        node = self._tree.children.get(group)
        return xr.Dataset() if node is None else node.to_dataset(inherit=False)

    def _rows(self, group: str, rows: str) -> slice | Array:
        """``seen`` is thinned, ``all`` and ``first`` are not; ``first`` disregards the window."""
        if rows == "first":
            return slice(0, MAX_ROWS)
        dataset = self._dataset(group)
        if "step" not in dataset.coords:
            return slice(0)
        return self._kept(dataset["step"].values, is_thinned=rows == "seen")

    def _kept(self, steps: Array, *, is_thinned: bool) -> slice | Array:
        """Return the places of the steps in the window, at most about `MAX_ROWS` if thinned."""
        n_rows = len(steps)
        start = max(0, n_rows - (self.window or n_rows))
        stride = max(1, -(-(n_rows - start) // MAX_ROWS)) if is_thinned else 1
        if stride == 1 or self.n_optimizers == 1:
            return slice(start, None, stride)
        return self._thinned_apart(steps[start:], start, stride)

    def _thinned_apart(self, steps: Array, start: int, stride: int) -> Array:
        """Thin the rows of each optimizer by themselves, so that none is left out."""
        _, which = np.unique(stepped_at(self._tree, steps), axis=0, return_inverse=True)
        kept = [np.flatnonzero(which == one)[::stride] for one in range(int(which.max()) + 1)]
        return np.sort(np.concatenate(kept)) + start

    def steps(self, group: str, rows: str = "seen") -> Array:
        """Return the steps of the rows that `values` gives."""
        dataset = self._dataset(group)
        if "step" not in dataset.coords:
            return np.zeros(0, int)
        return np.asarray(dataset["step"].values[self._rows(group, rows)])

    def values(self, group: str, name: str, rows: str = "seen") -> Array | None:
        """Return a variable as float64, (step, …), NaN where missing; None if not recorded."""
        key = (group, name, rows)
        if key not in self._cache:
            self._cache[key] = self._read(*key)
        return self._cache[key]

    def paired(self, first: tuple[str, str], second: tuple[str, str]) -> tuple[Array, Array] | None:
        """Return two variables of parameters, each named by group and name, as (step, param).

        The steps are those that both groups have: groups end at different steps while a training
        is being written, and where it was killed. The parameters are those of the first.
        """
        groups = self._dataset(first[0]), self._dataset(second[0])
        if first[1] not in groups[0].data_vars or second[1] not in groups[1].data_vars:
            return None
        if all(groups[0][name].equals(groups[1][name]) for name in ("step", "param")):
            own, other = self.values(*first), self.values(*second)  # read once for all rules
            return None if own is None or other is None else (own, other)
        steps = np.intersect1d(groups[0]["step"].values, groups[1]["step"].values)
        steps, columns = steps[self._kept(steps, is_thinned=True)], groups[0]["param"]
        chosen = groups[0][first[1]].sel(step=steps)
        paired = groups[1][second[1]].sel(step=steps).reindex(param=columns)
        return chosen.values.astype(np.float64), paired.values.astype(np.float64)

    def _read(self, group: str, name: str, rows: str) -> Array | None:
        dataset = self._dataset(group)
        if name not in dataset.data_vars or not dataset.sizes.get("step", 0):
            return None
        values = dataset[name].isel(step=self._rows(group, rows)).values.astype(np.float64)
        if dataset[name].dtype.kind in "iu":
            values[values < 0] = np.nan
        return values if len(values) else None

    def coordinate(self, group: str, name: str) -> Array | None:
        """Return a coordinate along ``param`` or ``layer``; None if there is none."""
        dataset = self._dataset(group)
        return np.asarray(dataset[name].values) if name in dataset.coords else None

    def weights(self, group: str) -> Array:
        """Positions of the weights of weight layers along ``param``, in network order."""
        names, kinds = self.coordinate(group, "param"), self.coordinate(group, "kind")
        if names is None:
            return np.zeros(0, int)
        if kinds is None:
            return np.flatnonzero([str(name).endswith("weight") for name in names])
        return np.flatnonzero(kinds == "weight")

    @cached_property
    def weight_layers(self) -> Array:
        """Positions of weight layers along ``layer``: owners of weights, else first of a depth."""
        names, owners = (
            self.coordinate("activations", "layer"),
            self.coordinate("gradients", "layer"),
        )
        kinds = self.coordinate("gradients", "kind")
        if names is not None and owners is not None and kinds is not None:
            return np.flatnonzero(np.isin(names, owners[np.isin(kinds, ("weight", "embedding"))]))
        depth = self.coordinate("activations", "depth")
        if depth is None:
            return np.arange(0 if names is None else len(names))
        return np.unique(depth, return_index=True)[1]

    @property
    def is_from_start(self) -> bool:
        """Whether the recording contains the first step, inside or outside the window."""
        return len(self.all_steps) > 0 and int(self.all_steps[0]) <= 1

    @cached_property
    def n_optimizers(self) -> int:
        """Objectives that alternate: sets of optimizers that stepped in a row of their own."""
        if "step" not in self._dataset("training").coords:
            return 1
        return len(np.unique(stepped_at(self._tree, self.all_steps), axis=0)) or 1

    @cached_property
    def loss(self) -> Array | None:
        """Training loss of the whole recording, NaN where missing."""
        return self._whole("loss")

    @cached_property
    def all_steps(self) -> Array:
        """Steps of ``loss`` and ``lr``."""
        dataset = self._dataset("training")
        return np.asarray(dataset["step"].values if "step" in dataset.coords else np.zeros(0, int))

    @cached_property
    def lr(self) -> Array | None:
        """Learning rate of the first parameter group, of the whole recording."""
        values = self._whole("lr")
        return values[:, 0] if values is not None and values.ndim == 2 else values

    def _whole(self, name: str) -> Array | None:
        dataset = self._dataset("training")
        if name not in dataset or not dataset.sizes.get("step", 0):
            return None
        return np.asarray(dataset[name].values, dtype=np.float64)


def median(values: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Median of the values that are not missing; NaN if all are missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(np.where(np.isfinite(values), values, np.nan), axis=axis))


def name_some(names: list[str]) -> str:
    """Name at most three.

    >>> name_some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more

"""Input of the health rules: a recording as arrays with few rows; missing groups are None."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import xarray as xr

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

    def _rows(self, group: str, rows: str) -> slice:
        """``seen`` is thinned, ``all`` and ``first`` are not; ``first`` disregards the window."""
        n_rows = self._dataset(group).sizes.get("step", 0)
        if rows == "first":
            return slice(0, MAX_ROWS)
        start = max(0, n_rows - (self.window or n_rows))
        stride = max(1, -(-(n_rows - start) // MAX_ROWS)) if rows == "seen" else 1
        return slice(start, None, stride)

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

    @property
    def n_optimizers(self) -> int:
        """Number of optimizers that took steps; with several, losses may differ in kind."""
        which = self.values("training", "optimizer", "all")
        return 1 if which is None else max(1, len(np.unique(which[~np.isnan(which)])))

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

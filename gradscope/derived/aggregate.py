"""Statistics of a layer, a stage or the whole net from those of its parameters, exactly.

Norms, means, fourth moments, counts and histograms of any union of tensors follow from those of
the tensors and their sizes; nothing is averaged that does not average.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.variables import FORMULAS, compute, inputs_of
from gradscope.errors import UsageError, unknown

Total = Callable[[xr.DataArray], xr.DataArray]


def aggregate(tree: xr.DataTree, by: str = "layer") -> xr.DataTree:
    """Aggregate every group with parameters (or layers) over a coordinate.

    Parameters
    ----------
    tree : DataTree
        A recording, or many with a dimension ``run``.
    by : str, default "layer"
        Coordinate along ``param``: ``layer``, ``stage``, ``layer_type``, ``depth``, ``kind``, …;
        ``"all"`` for the whole net.

    Returns
    -------
    DataTree
        The groups with ``param`` (or ``layer``) replaced by ``by``, in order of first appearance;
        ``numel`` adds up. Missing parameters are left out of sums; where all are missing, NaN.
        What does not follow from the stored statistics is left out.

    Raises
    ------
    UsageError
        If no group has the coordinate.
    """
    nodes, found = {"/": xr.Dataset(attrs=tree.attrs)}, set()
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        dim = next((d for d in ("param", "layer") if d in dataset.dims), None)
        if dim is None or node.name in ("training", "evaluation"):
            continue
        found |= {str(name) for name, c in dataset.coords.items() if dim in c.dims} - {dim}
        if by == "all" or by in dataset.coords:
            rules = _Rules(tree, node.path.rpartition("/")[0], dataset, dim, by)
            nodes[node.path] = rules.aggregated()
    if len(nodes) == 1:
        raise UsageError(unknown("coordinate", by, found | {"all"}))
    return xr.DataTree.from_dict(nodes)


class _Rules:
    """How each variable of one group aggregates; a rule's name is the variable's."""

    def __init__(
        self, tree: xr.DataTree, parent: str, dataset: xr.Dataset, dim: str, by: str
    ) -> None:
        self.tree, self.parent, self.dim, self.by = tree, parent, dim, by
        self.d = dataset
        labels = np.zeros(dataset.sizes[dim], int) if by == "all" else dataset[by].values
        self.keys = list(dict.fromkeys(labels.tolist()))
        self.columns = [np.flatnonzero(labels == key) for key in self.keys]
        ones = xr.ones_like(dataset[dim], dtype=float)
        self.numel = dataset["numel"].astype(float) if "numel" in dataset.coords else ones

    def aggregated(self) -> xr.Dataset:
        """Return the group with every variable that has a rule."""
        variables = {}
        for name, values in self.d.data_vars.items():
            if self.dim not in values.dims:
                variables[name] = values
            elif name not in FORMULAS or name == "exp_avg_sq_hat_mean":
                one = self._one(str(name), values)
                if one is not None:
                    variables[name] = one.transpose(*self._dims(values)).assign_attrs(values.attrs)
        result = xr.Dataset(variables).assign_coords(self._coordinates())
        return self._with_derived(result)

    def _dims(self, values: xr.DataArray) -> list[str]:
        return [self.by if dim == self.dim else str(dim) for dim in values.dims]

    def _one(self, name: str, values: xr.DataArray) -> xr.DataArray | None:
        values = values.astype(np.float64)
        rule = getattr(self, f"_of_{name}", None)
        if rule is not None:
            return rule(values)
        if name.endswith("_norm"):
            return self.total(values**2) ** 0.5
        if name.endswith("_max"):
            return self.gather(values, lambda part: part.max(self.dim))
        if name.endswith("_rms"):
            return self.mean(values**2, self._size(name)) ** 0.5
        if name.endswith(("_mean", "_fraction")):
            return self.mean(values, self._size(name))
        if name in _ADDITIVE or "_histogram" in name:
            return self.total(values)
        return None

    def gather(self, values: xr.DataArray, reduce: Total) -> xr.DataArray:
        """Reduce each set of columns and line the results up along ``by``."""
        parts = [reduce(values.isel({self.dim: columns})) for columns in self.columns]
        return xr.concat(
            parts, xr.Variable(self.by, self.keys), coords="minimal", compat="override"
        )

    def total(self, values: xr.DataArray) -> xr.DataArray:
        """Sum over what is there."""
        plain = values.drop_vars([name for name in values.coords if name not in values.dims])
        return self.gather(plain, lambda part: part.sum(self.dim, min_count=1))

    def mean(self, values: xr.DataArray, size: xr.DataArray) -> xr.DataArray:
        """Mean weighted by size, over what is there."""
        return self.total(values * size) / self.total(size.where(values.notnull()))

    def _size(self, name: str) -> xr.DataArray:
        """Entries that a mean was taken over."""
        if self.dim == "layer":
            return self.d["output_numel"] if "output_numel" in self.d else self.numel * np.nan
        if name.startswith("grad_") and "grad_nonfinite" in self.d and name != "grad_norm":
            return self.numel - self.d["grad_nonfinite"].fillna(0)
        return self.numel

    def _of_grad_kurtosis(self, values: xr.DataArray) -> xr.DataArray:
        """N sum g^4 / (sum g^2)^2, with sum g^4 of a tensor = kurtosis (sum g^2)^2 / n."""
        size = self._size("grad_kurtosis")
        square = self.d["grad_norm"].astype(np.float64) ** 2
        scale = self.gather(square, lambda part: part.max(self.dim))  # keeps fourth powers finite
        n_all = self.total(size.where(values.notnull()))
        fourth = []
        for key, columns in zip(self.keys, self.columns, strict=True):
            at = {self.dim: columns}
            share = square.isel(at) / scale.sel({self.by: key}, drop=True)
            fourth.append((values.isel(at) * share**2 / size.isel(at)).sum(self.dim, min_count=1))
        sums = xr.concat(
            fourth, xr.Variable(self.by, self.keys), coords="minimal", compat="override"
        )
        return n_all * sums / (self.total(square) / scale) ** 2

    def _of_log_exp_avg_sq_mean(self, values: xr.DataArray) -> xr.DataArray:
        return self.mean(values, self._positive())

    def _of_log_exp_avg_sq_var(self, values: xr.DataArray) -> xr.DataArray:
        """Variance within tensors plus variance between their means."""
        means = self.d["log_exp_avg_sq_mean"].astype(np.float64)
        second = self.mean(values + means**2, self._positive())
        return second - self.mean(means, self._positive()) ** 2

    def _positive(self) -> xr.DataArray:
        zero = self.d.get("exp_avg_sq_zero_fraction", 0.0)
        return self.numel * (1 - zero)

    def _of_signal_fraction(self, values: xr.DataArray) -> xr.DataArray | None:
        if "exp_avg_sq_hat_mean" not in self.d:
            return None
        return self.mean(values, self.numel * self.d["exp_avg_sq_hat_mean"])

    def _of_state_step(self, values: xr.DataArray) -> xr.DataArray:
        """The common value; NaN where parameters differ."""
        highest = self.gather(values, lambda part: part.max(self.dim))
        return highest.where(highest == self.gather(values, lambda part: part.min(self.dim)))

    def _of_grad_param_cosine(self, values: xr.DataArray) -> xr.DataArray | None:
        return self._cosine(values, "grad_norm", "param_norm")

    def _of_update_grad_cosine(self, values: xr.DataArray) -> xr.DataArray | None:
        return self._cosine(values, "update_norm", "grad_norm")

    def _of_update_param_cosine(self, values: xr.DataArray) -> xr.DataArray | None:
        return self._cosine(values, "update_norm", "param_norm")

    def _cosine(self, values: xr.DataArray, first: str, second: str) -> xr.DataArray | None:
        """<a, b> adds up, and so do the squared norms."""
        a, b = self._find(first), self._find(second)
        if a is None or b is None:
            return None
        norms = (self.total(a**2) * self.total(b**2)) ** 0.5
        return self.total(values * a * b) / norms

    def _find(self, name: str) -> xr.DataArray | None:
        """Find a variable in this group or its home, at the rows of this group."""
        if name in self.d:
            return self.d[name].astype(np.float64)
        home = f"{self.parent}/{schema.find(name)[0]}"
        if home not in self.tree.groups or name not in self.tree[home].data_vars:
            return None
        found = self.tree[home][name].astype(np.float64)
        return found.reindex(step=self.d["step"], param=self.d["param"])

    def _coordinates(self) -> dict[str, xr.DataArray | xr.Variable]:
        """Sizes add up; what is the same within each set stays."""
        kept: dict[str, xr.DataArray | xr.Variable] = {}
        for name, values in self.d.coords.items():
            if values.dims == (self.dim,) and name not in (self.dim, self.by, "numel"):
                parts = [values.values[columns] for columns in self.columns]
                if all((part == part[0]).all() for part in parts):
                    kept[str(name)] = xr.Variable(self.by, [part[0] for part in parts])
        if "numel" in self.d.coords:
            kept["numel"] = self.total(self.numel).astype(np.int64).variable
        return kept

    def _with_derived(self, result: xr.Dataset) -> xr.Dataset:
        for name in self.d.data_vars:
            if name not in FORMULAS or name == "exp_avg_sq_hat_mean":
                continue
            inputs = [self._aggregated_input(result, needed) for needed in inputs_of(str(name))]
            if all(values is not None for values in inputs):
                computed = xr.apply_ufunc(
                    lambda *a, n=str(name): compute(n, *a), *inputs, dask="allowed"
                )
                result[name] = computed.assign_attrs(self.d[name].attrs)
        return result

    def _aggregated_input(self, result: xr.Dataset, name: str) -> xr.DataArray | None:
        if name in result:
            return result[name]
        found = self._find(name) if name not in schema.PARAM_COORDINATES else None
        return None if found is None else self.total(found**2) ** 0.5


_ADDITIVE = ("grad_nonfinite", "descent", "output_numel", "grad_sketch", "microbatch_grad_sq")

"""Aggregation rules: variables of a union of parameters or layers from those of its members.

`RULES` has a function for each rule that `gradscope.schema` names, `WEIGHTS` one for each weight.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.variables import FORMULAS, compute, inputs_of
from gradscope.schema.variable import Aggregation, Rule, Weight


class Unions:
    """Members of one group of a recording, grouped into unions.

    Parameters
    ----------
    tree : DataTree
        The recording: some rules need variables of other groups.
    parent : str
        Path of the group that holds this one, empty at the top.
    dataset : Dataset
        The group.
    dim : {"param", "layer"}
        Dimension of the members.
    by : str
        Coordinate that names the union of each member, or ``"all"``.
    """

    def __init__(
        self, tree: xr.DataTree, parent: str, dataset: xr.Dataset, dim: str, by: str
    ) -> None:
        self.tree, self.parent, self.dim, self.by = tree, parent, dim, by
        self.dataset = dataset
        labels = np.zeros(dataset.sizes[dim], int) if by == "all" else dataset[by].values
        self.keys = list(dict.fromkeys(labels.tolist()))
        self.columns = [np.flatnonzero(labels == key) for key in self.keys]
        ones = xr.ones_like(dataset[dim], dtype=float)
        self.numel = dataset["numel"].astype(float) if "numel" in dataset.coords else ones

    def aggregated(self, name: str) -> xr.DataArray | None:
        """Return a variable of each union; None if it does not follow from its members."""
        values = self.find(name)
        if values is None:
            return None
        aggregation = schema.declaration(name, values.attrs).aggregation
        found = RULES[aggregation.rule](self, name, values, aggregation)
        if found is None:
            return None
        dims = [self.by if dim == self.dim else str(dim) for dim in values.dims]
        return found.transpose(*dims).assign_attrs(values.attrs)

    def find(self, name: str) -> xr.DataArray | None:
        """Find a variable of the members, in this group or its own, at the rows of this group."""
        if name in self.dataset.data_vars:
            return self.dataset[name].astype(np.float64)
        if name in schema.PARAM_COORDINATES or name not in schema.VARIABLES:
            return None
        home = f"{self.parent}/{schema.find(name)[0]}"
        if home not in self.tree.groups or name not in self.tree[home].data_vars:
            return None
        found = self.tree[home][name].astype(np.float64)
        return found.reindex(step=self.dataset["step"], param=self.dataset["param"])

    def gather(
        self, values: xr.DataArray, reduce: Callable[[xr.DataArray], xr.DataArray]
    ) -> xr.DataArray:
        """Reduce the members of each union and concatenate the results along ``by``."""
        return self.line_up([reduce(values.isel({self.dim: columns})) for columns in self.columns])

    def line_up(self, parts: list[xr.DataArray]) -> xr.DataArray:
        """Concatenate one array a union."""
        return xr.concat(
            parts, xr.Variable(self.by, self.keys), coords="minimal", compat="override"
        )

    def total(self, values: xr.DataArray) -> xr.DataArray:
        """Sum over what is not missing; missing where all members are."""
        plain = values.drop_vars([name for name in values.coords if name not in values.dims])
        return self.gather(plain, lambda part: part.sum(self.dim, min_count=1))

    def maximum(self, values: xr.DataArray) -> xr.DataArray:
        """Take the largest value that is not missing."""
        return self.gather(values, lambda part: part.max(self.dim))

    def mean(self, values: xr.DataArray, size: xr.DataArray) -> xr.DataArray:
        """Average over what is not missing, weighted by size."""
        return self.total(values * size) / self.total(size.where(values.notnull()))


Found = xr.DataArray | None
Apply = Callable[[Unions, str, xr.DataArray, Aggregation], Found]


def _no_rule(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    return None


def _sum(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    return unions.total(values)


def _root_sum_squares(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    return unions.total(values**2) ** 0.5


def _maximum(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    return unions.maximum(values)


def _mean(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    weight = WEIGHTS[how.weight](unions)
    return None if weight is None else unions.mean(values, weight)


def _root_mean_square(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    square = _mean(unions, name, values**2, how)
    return None if square is None else square**0.5


def _cosine(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    """Inner products add up, and so do squared norms."""
    a, b = (unions.find(norm) for norm in how.of)
    if a is None or b is None:
        return None
    norms = (unions.total(a**2) * unions.total(b**2)) ** 0.5
    return unions.total(values * a * b) / norms


def _kurtosis(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    """N sum g^4 / (sum g^2)^2, with sum g^4 of a member = kurtosis (sum g^2)^2 / n."""
    norm, size = unions.find(how.of[0]), WEIGHTS[how.weight](unions)
    if norm is None or size is None:
        return None
    values = values.where(values.notnull() | (norm != 0), 0.0)  # of zeros alone: 0 / 0
    square = norm**2
    scale = unions.maximum(square)  # keeps fourth powers finite
    n_all = unions.total(size.where(values.notnull()))
    fourth = []
    for key, columns in zip(unions.keys, unions.columns, strict=True):
        at = {unions.dim: columns}
        share = square.isel(at) / scale.sel({unions.by: key}, drop=True)
        fourth.append((values.isel(at) * share**2 / size.isel(at)).sum(unions.dim, min_count=1))
    return n_all * unions.line_up(fourth) / (unions.total(square) / scale) ** 2


def _log_variance(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    """Variance within members plus variance between their means."""
    means, weight = unions.find(how.of[0]), WEIGHTS[how.weight](unions)
    if means is None or weight is None:
        return None
    return unions.mean(values + means**2, weight) - unions.mean(means, weight) ** 2


def _common(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    """The common value; NaN where members differ."""
    highest = unions.maximum(values)
    return highest.where(highest == unions.gather(values, lambda part: part.min(unions.dim)))


def _recompute(unions: Unions, name: str, values: xr.DataArray, how: Aggregation) -> Found:
    """Apply the formula of a derived variable to its aggregated inputs."""
    inputs = []
    for needed in inputs_of(name):
        is_size = needed == "numel"
        found = unions.total(unions.numel) if is_size else unions.aggregated(needed)
        if found is None:
            return None
        inputs.append(found)
    result: xr.DataArray = xr.apply_ufunc(
        lambda *arrays: compute(name, *arrays), *inputs, dask="allowed"
    )
    return result


RULES: dict[Rule, Apply] = {
    "none": _no_rule,
    "sum": _sum,
    "root_sum_squares": _root_sum_squares,
    "maximum": _maximum,
    "mean": _mean,
    "root_mean_square": _root_mean_square,
    "cosine": _cosine,
    "kurtosis": _kurtosis,
    "log_variance": _log_variance,
    "common": _common,
    "recompute": _recompute,
}


def _finite_numel(unions: Unions) -> Found:
    nonfinite = unions.dataset.get("grad_nonfinite")
    return unions.numel if nonfinite is None else unions.numel - nonfinite.fillna(0)


def _positive_numel(unions: Unions) -> Found:
    return unions.numel * (1 - unions.dataset.get("exp_avg_sq_zero_fraction", 0.0))


def _output_numel(unions: Unions) -> Found:
    numel: Found = unions.dataset.get("output_numel")
    return numel


def _v_hat_sum(unions: Unions) -> Found:
    mean = unions.dataset.get("exp_avg_sq_hat_mean")
    return None if mean is None else unions.numel * mean


WEIGHTS: dict[Weight, Callable[[Unions], Found]] = {
    "": lambda unions: None,
    "numel": lambda unions: unions.numel,
    "finite_numel": _finite_numel,
    "positive_numel": _positive_numel,
    "output_numel": _output_numel,
    "v_hat_sum": _v_hat_sum,
}

WEIGHT_INPUTS: dict[Weight, tuple[str, ...]] = {
    "": (),
    "numel": (),
    "finite_numel": ("grad_nonfinite",),
    "positive_numel": ("exp_avg_sq_zero_fraction",),
    "output_numel": ("output_numel",),
    "v_hat_sum": ("exp_avg_sq_hat_mean",),
}
"""Variables that each weight is computed from."""


def needed_for(name: str) -> set[str]:
    """Return every variable that aggregating a declared one reads, itself included.

    >>> sorted(needed_for("grad_kurtosis"))
    ['grad_kurtosis', 'grad_nonfinite', 'grad_norm']
    """
    how = schema.declaration(name).aggregation
    needed = {name, *how.of, *WEIGHT_INPUTS[how.weight]}
    if how.rule == "recompute" and name in FORMULAS:
        stored = [key for key in inputs_of(name) if key not in schema.PARAM_COORDINATES]
        needed = needed.union(*map(needed_for, stored))
    return needed

"""From a recording to the rows of a picture: one labelled array, steps by layers."""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.aggregate import aggregate
from gradscope.derived.aggregation_rules import needed_for
from gradscope.errors import UsageError, unknown

BY = ("weight", "param", "layer", "stage", "layer_type")
ALONG = ("step", "epoch", "loss")
WEIGHT_KINDS = ("weight", "embedding")


def select(
    tree: xr.DataTree,
    quantity: str,
    *,
    by: str = "weight",
    layers: str | None = None,
    steps: tuple[int | None, int | None] = (None, None),
) -> xr.DataArray:
    """Return a quantity in network order, ready to draw.

    Parameters
    ----------
    tree : DataTree
        A recording.
    quantity : str
        A variable with the dimensions (step, param) or (step, layer).
    by : {"weight", "param", "layer", "stage", "layer_type"}
        ``weight`` keeps the weight of each weight layer, or what trains where all weights are
        frozen; ``param`` keeps every parameter; the others unite parameters exactly
        (`gradscope.derived.aggregate`): of norms, the root of the sum of squares.
    layers : str, optional
        Keep rows whose name has a match of this regular expression.
    steps : (int or None, int or None)
        First and last step to keep.

    Returns
    -------
    DataArray, dims (step, param) or (step, layer), behind ``run`` in a tree of many runs; of runs
        aligned by relative depth, (run, step, relative_depth).
        With the attributes of the variable; missing is NaN, also for counts.

    Raises
    ------
    UsageError
        If the quantity, the regular expression or the steps select nothing.
    """
    if by not in BY:
        raise UsageError(unknown("grouping", by, BY))
    data = _quantity(tree, quantity)
    if "param" in data.dims and not data.sizes["param"]:
        raise UsageError("this recording holds no parameters: `include` and `exclude` left none")
    if "relative_depth" in data.dims and by != "weight":
        raise UsageError(f"runs aligned by relative depth have weight layers only; got --by {by}")
    if by in BY[3:] or (by == "layer" and "param" in data.dims):
        data = _united(tree, quantity, by)
    data = _between(data, *steps)
    if "param" in data.dims:
        data = _parameters(data, by)
    elif by == "param":
        raise UsageError(f"`{quantity}` belongs to layers, not parameters; use --by layer")
    elif by == "weight" and "layer" in data.dims:
        data = data.isel(layer=_is_weight_layer(tree, data))
    data = _matching(data, layers)
    return data if data.dtype.kind == "f" else data.where(data >= 0)


def quantities(tree: xr.DataTree) -> list[str]:
    """List what can be drawn over steps and layers."""
    return sorted(
        str(name)
        for node in tree.children.values()
        for name, variable in node.data_vars.items()
        if variable.dims[-2:] in (("step", "param"), ("step", "layer"), ("step", "relative_depth"))
    )


def not_shown(tree: xr.DataTree) -> dict[str, list[str]]:
    """Name the parameters that pictures by weight leave out, by kind: biases, bare tensors."""
    tables = (node.dataset for node in tree.children.values())
    known = next((data for data in tables if {"param", "kind"} <= set(data.coords)), None)
    if known is None:
        return {}
    names, kinds = known["param"].values.astype(str), known["kind"].values.astype(str)
    try:
        shown = set(_parameters(known["kind"], "weight")["param"].values.tolist())
    except UsageError:
        shown = set()
    found: dict[str, list[str]] = {}
    for name, kind in zip(names.tolist(), kinds.tolist(), strict=True):
        if name not in shown:
            found.setdefault(kind, []).append(name)
    return found


def _has_rows(tree: xr.DataTree) -> bool:
    return any(name in tree.children for name in ("training", "evaluation"))


def _quantity(tree: xr.DataTree, quantity: str) -> xr.DataArray:
    known = quantities(tree)
    if not known:
        words = (
            ", only curves: see the kind `curves`"
            if _has_rows(tree)
            else ": nothing was recorded yet"
        )
        raise UsageError(f"this recording holds no quantity by layer{words}")
    if quantity not in known:
        try:
            group, variable = schema.find(quantity)
        except KeyError:
            raise UsageError(unknown("quantity", quantity, known)) from None
        if "layer" not in variable.dims and "param" not in variable.dims:
            raise UsageError(
                f"`{quantity}` in /{group} has no layers. Those that do: {', '.join(known)}"
            )
        raise UsageError(f"this recording has no `{quantity}`; it has: {', '.join(known)}")
    homes = (node for node in tree.children.values() if quantity in node.data_vars)
    return next(homes).dataset[quantity]


def _between(data: xr.DataArray, first: int | None, last: int | None) -> xr.DataArray:
    steps = data["step"].values
    if steps.size == 0:
        raise UsageError(f"`{data.name}` has no recorded step yet")
    low, high = steps[0] if first is None else first, steps[-1] if last is None else last
    chosen = (steps >= low) & (steps <= high)
    if not chosen.any():
        asked = ":".join("" if end is None else str(end) for end in (first, last))
        raise UsageError(
            f"no recorded step in {asked}; `{data.name}` has {steps[0]} to {steps[-1]}"
        )
    return data.isel(step=chosen)


def _parameters(data: xr.DataArray, by: str) -> xr.DataArray:
    """Keep the weights; where all of them are frozen, as under adapters, what trains instead."""
    if by == "param":
        return data
    kinds = np.isin(data["kind"].values, WEIGHT_KINDS)
    chosen = kinds.any(axis=0) if kinds.ndim > 1 else kinds  # (run, param) where runs differ
    if not chosen.any():
        raise UsageError("this recording has no weight layers; use --by param")
    if "requires_grad" in data.coords and data["requires_grad"].dims == ("param",):
        trains = data["requires_grad"].values.astype(bool)
        if trains.any() and not (trains & chosen).any():
            chosen = trains
    return data.isel(param=chosen)


def _united(tree: xr.DataTree, quantity: str, by: str) -> xr.DataArray:
    """Aggregate exactly over layers, stages or layer types."""
    home = next(name for name, node in tree.children.items() if quantity in node.data_vars)
    needed = needed_for(quantity)  # read no more of a long recording than this quantity needs
    nodes = {name: node.to_dataset(inherit=False) for name, node in tree.children.items()}
    kept = {
        f"/{name}": data[[key for key in data.data_vars if key in needed]]
        for name, data in nodes.items()
    }
    united = aggregate(xr.DataTree.from_dict(kept), by=by)[home].dataset
    if quantity not in united.data_vars:
        raise UsageError(
            f"`{quantity}` of a {by} does not follow from what is recorded of its parameters; "
            "use --by weight or --by param"
        )
    return united[quantity]


def _is_weight_layer(tree: xr.DataTree, data: xr.DataArray) -> np.ndarray:
    """Find the layers that own a weight; all of them in a recording without parameters."""
    owners: set[str] = set()
    for node in tree.children.values():
        if "param" in node.dims and {"layer", "kind"} <= set(node.coords):
            is_weight = np.isin(node.dataset["kind"].values, WEIGHT_KINDS)
            owners |= set(node.dataset["layer"].values[is_weight].astype(str))
    found = np.isin(data["layer"].values.astype(str), sorted(owners))
    return found if found.any() else np.ones_like(found)


def _matching(data: xr.DataArray, layers: str | None) -> xr.DataArray:
    if layers is None:
        return data
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise UsageError(f"`{layers}` is no regular expression: {error}") from None
    dim = row_dim(data)
    names = data[dim].values.astype(str)
    chosen = np.array([bool(pattern.search(name)) for name in names], dtype=bool)
    if not chosen.any():
        raise UsageError(f"no row matches {layers!r}; there are: {', '.join(names[:40])}")
    return data.isel({dim: chosen})


def row_dim(data: xr.DataArray) -> str:
    """Return the dimension that is drawn as rows: ``param``, ``layer`` or what unites them."""
    return next(str(dim) for dim in data.dims if dim not in ("run", *ALONG))

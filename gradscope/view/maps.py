"""The map of a run, or of the difference between two, in the form the report's page draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gradscope.derived.select import quantities, row_dim
from gradscope.errors import UsageError
from gradscope.plots.axes.labels import quantity_label
from gradscope.plots.axes.scales import effect_scale
from gradscope.report.data import (
    RunData,
    choose_quantities,
    describe_curve,
    describe_quantity,
    encode_run,
    joint_scales,
    read_curves,
    read_rows,
)
from gradscope.store.read.recording import open_recording

MAX_VALUES = 8_000_000
"""Numbers read for one map; longer recordings are subsampled at a constant stride."""

SCALARS = ("total_grad_norm", "lr")


def run_map(path: Path, name: str, *, quantity: str, by: str, columns: int) -> dict[str, Any]:
    """Return one quantity of a run, its losses and its scalars, decimated to a screen's width.

    Raises
    ------
    UsageError
        If the rows asked for cannot be formed.
    """
    with open_recording(path) as tree:
        wanted = quantity or next(iter(choose_quantities([tree], None)), "")
        data = read_rows(thinned(tree, wanted), wanted, by) if wanted else None
        run = RunData(name, {} if data is None else {wanted: data}, read_curves(tree))
        return _payload(run, columns) | {
            "quantity": wanted,
            "choices": choices(tree),
            "scalars": _scalars(tree),
        }


def thinned(tree: xr.DataTree, quantity: str) -> xr.DataTree:
    """Return the tree, or every n-th step of it where a quantity has more than `MAX_VALUES`.

    The steps of other groups are the same ones: some groups begin later or end earlier.
    """
    homes = [
        node.dataset[quantity] for node in tree.children.values() if quantity in node.data_vars
    ]
    largest = max(homes, key=lambda data: data.size, default=None)
    if largest is None or largest.size <= MAX_VALUES:
        return tree
    steps = largest["step"].values[:: -(-largest.size // MAX_VALUES)]
    kept = {
        name: data.isel(step=np.isin(data["step"].values, steps))
        if {"param", "layer"} & set(data.dims) and "step" in data.dims
        else data
        for name, data in ((name, node.to_dataset()) for name, node in tree.children.items())
    }
    return xr.DataTree.from_dict({"/": tree.to_dataset(), **kept})


def _payload(run: RunData, columns: int) -> dict[str, Any]:
    scales = joint_scales([run], list(run.rows))
    return {
        "quantities": {q: describe_quantity(run.rows[q], scales[q]) for q in scales},
        "runs": [encode_run(run, scales, columns)],
    }


def choices(tree: xr.DataTree) -> list[tuple[str, str]]:
    """List names and labels of what can be drawn, the usual ones first."""
    usual = choose_quantities([tree], None)
    names = dict.fromkeys([*usual, *quantities(tree)])
    homes = {str(name): node for node in tree.children.values() for name in node.data_vars}
    return [(name, quantity_label(homes[name].dataset[name])) for name in names]


def _scalars(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Describe accuracies, total norm and learning rate of the first parameter group."""
    found = []
    for group in ("evaluation", "training"):
        node = tree.children.get(group)
        for name, data in {} if node is None else node.dataset.data_vars.items():
            if str(name).endswith("_accuracy") or str(name) in SCALARS:
                own = data.isel(param_group=0) if "param_group" in data.dims else data
                if own.dims == ("step",) and np.isfinite(own.values).any():
                    found.append(describe_curve(own, str(name), group))
    return found


def difference_map(
    paths: tuple[Path, Path], names: tuple[str, str], *, quantity: str, by: str, columns: int
) -> dict[str, Any]:
    """Return how a quantity of the first run differs from that of the second.

    Magnitudes are compared by the base-2 logarithm of their ratio, signed quantities and shares by
    their difference, at the steps and layers that both runs recorded.

    Raises
    ------
    UsageError
        If the runs share no step or no layer.
    """
    pair = []
    for path, name in zip(paths, names, strict=True):
        with open_recording(path) as tree:
            data = read_rows(thinned(tree, quantity), quantity, by)
            if data is None:
                raise UsageError(f"{name} has no `{quantity}` yet")
            pair.append(data)
    first, second = xr.align(*pair, join="inner", copy=False)
    if not first.size:
        raise UsageError(
            f"{names[0]} and {names[1]} share no recorded step or no {row_dim(pair[0])}"
        )
    is_ratio = joint_scales([RunData("", {quantity: pair[0]})], [quantity])[quantity].kind == "log"
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log2(first.values / second.values) if is_ratio else first.values - second.values
    data = first.copy(data=values).drop_vars("cell_state", errors="ignore")
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UsageError(f"no value of `{quantity}` can be compared")
    scale = effect_scale(finite, is_ratio=False)
    label = f"{'log2 ratio' if is_ratio else 'difference'} of {quantity_label(first)}"
    described = describe_quantity(data, scale) | {
        "label": label,
        "formula": "log2(A / B)" if is_ratio else "A − B",
    }
    run = RunData(f"{names[0]} / {names[1]}", {quantity: data})
    encoded = encode_run(run, {quantity: scale}, columns)
    encoded["grids"][quantity]["description"] = f"A is {names[0]}, B is {names[1]}."
    return {"quantities": {quantity: described}, "runs": [encoded], "quantity": quantity}

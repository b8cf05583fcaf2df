"""Summary of a recording for the terminal, for JSON and for the report."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr

from gradscope.derived.cells import MISSING, NONFINITE, scalar_states
from gradscope.derived.select import not_shown

_NO_SUMMARY = ("config_json", "custom_json")


def summarise(tree: xr.DataTree) -> dict[str, Any]:
    """Summarise a recording.

    Parameters
    ----------
    tree : DataTree
        A recording, finished or still being written.

    Returns
    -------
    dict
        ``attributes``, ``configuration``, ``groups`` (rows, first and last step, variables),
        ``layers`` in network order (name, type, depth, parameters), ``n_parameters``,
        ``not_shown`` (names by kind of the parameters that pictures of weights leave out) and
        ``last`` (the newest value of each scalar with its step, and ``is_nonfinite`` where it is
        not finite). All values can be written as JSON; NaN is None.
    """
    layers = _layers(tree)
    return {
        "attributes": {
            str(key): _as_json(value) for key, value in tree.attrs.items() if key not in _NO_SUMMARY
        },
        "configuration": configuration(tree),
        "groups": {
            name: _group(node.to_dataset(inherit=False))
            for name, node in tree.children.items()
            if node.data_vars
        },
        "layers": layers,
        "n_parameters": sum(layer["n_parameters"] for layer in layers),
        "not_shown": not_shown(tree),
        "last": _last(tree),
    }


def configuration(tree: xr.DataTree) -> dict[str, Any]:
    """Return the configuration of the run; empty if none was recorded."""
    try:
        found = json.loads(str(tree.attrs.get("config_json", "{}")))
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {"config": found}


def _group(dataset: xr.Dataset) -> dict[str, Any]:
    row_dim = "step" if "step" in dataset.dims else "event"
    rows = dataset[row_dim].values if row_dim in dataset.coords else np.zeros(0)
    return {
        "n_rows": int(rows.size),
        "first_step": int(rows[0]) if rows.size else None,
        "last_step": int(rows[-1]) if rows.size else None,
        "variables": [str(name) for name in dataset.data_vars],
    }


def _layers(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Group the parameters of each layer, in the order of the parameter axis."""
    nodes = (node.dataset for node in tree.children.values())
    table = next((data for data in nodes if {"param", "layer", "numel"} <= set(data.coords)), None)
    if table is None:
        return []
    found: dict[str, dict[str, Any]] = {}
    nothing = np.full(table.sizes["param"], None)
    columns = [
        (table[name].values if name in table.coords else nothing).tolist()
        for name in ("layer", "layer_type", "depth", "numel")
    ]
    for name, kind, depth, numel in zip(*columns, strict=True):
        layer = found.setdefault(
            name, {"layer": name, "type": kind, "depth": depth, "n_parameters": 0}
        )
        layer["n_parameters"] += max(int(numel), 0)
    return list(found.values())


def _last(tree: xr.DataTree) -> dict[str, dict[str, Any]]:
    """Return the last value of every scalar that is not missing, else of the last row."""
    last: dict[str, dict[str, Any]] = {}
    for group in ("training", "evaluation"):
        if group not in tree.children:
            continue
        for name, variable in tree[group].dataset.data_vars.items():
            values, steps = np.asarray(variable.values), variable["step"].values
            if variable.dims[0] != "step" or values.size == 0 or values.dtype.kind not in "fiub":
                continue
            states = scalar_states(tree, variable).reshape(len(steps), -1)
            known = np.flatnonzero((states != MISSING).any(axis=1))
            row = int(known[-1]) if known.size else len(steps) - 1
            last[str(name)] = {"step": int(steps[row]), "value": _as_json(values[row])}
            if (states[row] == NONFINITE).any():
                last[str(name)]["is_nonfinite"] = True
    return last


def _as_json(value: Any) -> Any:
    """Turn NumPy's values into what JSON can hold; NaN and infinity become None."""
    if isinstance(value, np.ndarray):
        items = value.tolist()
        return _as_json(value.item()) if value.size == 1 else [_as_json(item) for item in items]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if isinstance(value, float) and not math.isfinite(value) else value

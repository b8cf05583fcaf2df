"""Data of the report: rows of a quantity by step, curves and scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.cells import NUMBER, select_cells, states_of
from gradscope.derived.optimizers import losses_apart
from gradscope.derived.select import WEIGHT_KINDS, quantities, row_dim, select
from gradscope.errors import UsageError
from gradscope.plots.axes.labels import quantity_label, row_labels
from gradscope.plots.axes.names import clip_apart
from gradscope.plots.axes.scales import Scale, declared_kind, scale_of
from gradscope.plots.axes.step_axis import Columns, is_log_spaced, step_columns
from gradscope.plots.layouts.curve import ranges
from gradscope.plots.layouts.view import describe
from gradscope.report.colours import describe_scale
from gradscope.report.encode import as_base64, encode

DEFAULT_QUANTITIES = (
    *("grad_norm", "update_ratio", "exp_avg_sq_hat_mean", "signal_fraction", "effective_lr"),
    *("grad_zero_fraction", "output_rms", "output_grad_rms", "output_zero_fraction"),
)
"""Shown where they were recorded, unless others are asked for."""

MAX_CELLS = 950_000
"""Values in a page, at 2.7 bytes each; with the plotting library it then stays below 5 MB."""

MIN_COLUMNS = 200
"""Steps are never merged into fewer columns, however many runs there are."""

MAX_POINTS = 1500


@dataclass
class RunData:
    """What is drawn of one run: rows by quantity, and the loss."""

    name: str
    rows: dict[str, xr.DataArray] = field(default_factory=dict)
    curves: list[dict[str, Any]] = field(default_factory=list)


def read_run(
    tree: xr.DataTree, name: str, wanted: Sequence[str], by: str, *, is_asked: bool = False
) -> RunData:
    """Read the quantities that a run has, in network order, and its losses.

    Raises
    ------
    UsageError
        If the rows of a quantity that was asked for cannot be formed.
    """
    rows: dict[str, xr.DataArray] = {}
    for key in wanted:
        try:
            data = read_rows(tree, key, by)
        except UsageError:
            if is_asked:
                raise
            continue  # one of the usual quantities, which does not follow for such rows
        if data is not None:
            rows[key] = data
    return RunData(name, rows, read_curves(tree))


def choose_quantities(trees: Sequence[xr.DataTree], asked: Sequence[str] | None) -> list[str]:
    """Return the names of the quantities to show, those asked for or the usual ones.

    Raises
    ------
    UsageError
        If no run has one that was asked for.
    """
    known = {name for tree in trees for name in quantities(tree)}
    if asked is None:
        return [name for name in DEFAULT_QUANTITIES if name in known] or sorted(known)[:8]
    if list(asked) == ["all"]:
        return sorted(known)
    for name in asked:
        if name not in known:
            select(trees[0], name)  # says what is wrong with it
    return list(dict.fromkeys(asked))


def read_rows(tree: xr.DataTree, name: str, by: str) -> xr.DataArray | None:
    """Read one quantity; None where the run has no value of it yet.

    Where no parameter is marked as a weight, all are shown; where parameters were asked for, a
    quantity of layers is shown by layer.
    """
    homes = [node.dataset[name] for node in tree.children.values() if name in node.data_vars]
    if not homes or not homes[0].size:
        return None
    has_weights = "layer" in homes[0].dims or bool(
        np.isin(homes[0]["kind"].values, WEIGHT_KINDS).any()
    )
    if by == "weight" and not has_weights:
        by = "param"
    if by == "param" and "layer" in homes[0].dims:
        by = "layer"
    return select_cells(tree, name, by=by)


def read_curves(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Read the training loss and the evaluated losses; long series as mean and range."""
    known = {name: (loss, "training") for name, loss in losses_apart(tree).items()}
    node = tree.children.get("evaluation")
    for key, values in {} if node is None else node.dataset.data_vars.items():
        if schema.declaration(str(key)).units == "nat":
            known[str(key)] = (values, "evaluation")
    return [
        describe_curve(data, name, group)
        for name, (data, group) in known.items()
        if data.dims == ("step",) and np.isfinite(data.values).any()
    ]


def describe_curve(data: xr.DataArray, name: str, group: str) -> dict[str, Any]:
    """Return one value a step as the page draws it; long series as mean and range."""
    steps, values = data["step"].values, np.asarray(data.values, dtype=float)
    curve: dict[str, Any] = {"name": name, "label": quantity_label(data), "group": group}
    if len(steps) > 2 * MAX_POINTS:
        steps, low, values, high = ranges(steps, values, MAX_POINTS)
        curve |= {"low": _numbers(low), "high": _numbers(high)}
    return curve | {"step": _numbers(steps), "value": _numbers(values)}


def _numbers(values: np.ndarray) -> list[float | None]:
    """Six digits each; what is not finite becomes a gap."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=float)]


def joint_scales(runs: Sequence[RunData], wanted: Sequence[str]) -> dict[str, Scale]:
    """Choose one scale a quantity for all runs, so that colours compare; none without a number."""
    scales = {}
    for name in wanted:
        rows = [run.rows[name] for run in runs if name in run.rows]
        values = [np.ravel(data.values) for data in rows]
        joint = np.concatenate(values).astype(float) if values else np.zeros(0)
        if any((states_of(data) >= NUMBER).any() for data in rows):
            scales[name] = scale_of(joint, declared_kind(rows[0]))
    return scales


def own_scale(data: xr.DataArray, joint: Scale) -> Scale:
    """Choose the scale of one run alone; the joint one where it would be of another kind."""
    if not np.isfinite(data.values).any():
        return joint
    own = scale_of(np.ravel(data.values).astype(float), declared_kind(data))
    return own if own.kind == joint.kind else joint


def describe_quantity(data: xr.DataArray, scale: Scale) -> dict[str, Any]:
    """Say what a quantity is, from the attributes of the recording."""
    attrs = {key: str(data.attrs.get(key, "")) for key in ("formula", "reduction", "phase")}
    try:
        group = schema.find(str(data.name))[0]
    except KeyError:
        group = ""
    return {"label": quantity_label(data), "group": group, "scale": describe_scale(scale)} | attrs


def max_columns(runs: Sequence[RunData], scales: dict[str, Scale]) -> int:
    """Return how many columns each row may have, so that the page stays small."""
    n_rows = sum(run.rows[name].shape[-1] for run in runs for name in scales if name in run.rows)
    return max(MAX_CELLS // max(n_rows, 1), MIN_COLUMNS)


def encode_run(run: RunData, scales: dict[str, Scale], n_columns: int) -> dict[str, Any]:
    """Return what the page holds of one run; quantities of the same steps share their columns."""
    shared: dict[str, int] = {}
    columns: list[dict[str, Any]] = []
    grids = {}
    for name, data in run.rows.items():
        if name not in scales:
            continue
        steps = data["step"].values
        is_log_axis = is_log_spaced(steps)
        placed = step_columns(
            np.asarray(data.values, dtype=float),
            steps,
            states=states_of(data),
            is_log_axis=is_log_axis,
            is_log_value=scales[name].kind == "log",
            max_columns=n_columns,
        )
        own = _columns(placed, steps) | {"is_log": is_log_axis}
        at = shared.setdefault(own["edges"], len(columns))
        columns += [own] if at == len(columns) else []
        grids[name] = _rows(data, placed) | {"columns": at}
        grids[name]["scale"] = describe_scale(own_scale(data, scales[name]))
        if (states_of(data) >= NUMBER).any():
            grids[name]["description"] = describe(data, "Heat map", "")
    return {"name": run.name, "curves": run.curves, "columns": columns, "grids": grids}


def _columns(placed: Columns, steps: np.ndarray) -> dict[str, Any]:
    """Where columns stand, and from which to which recorded step each reaches."""
    start = np.searchsorted(steps, placed.edges[:-1])
    stop = np.searchsorted(steps, placed.edges[1:])
    last = np.where(stop > start, steps[np.maximum(stop - 1, 0)], -1)
    first = np.where(stop > start, steps[np.minimum(start, len(steps) - 1)], -1)
    return {
        "edges": as_base64(placed.edges, "f8"),
        "first": as_base64(first, "f8"),
        "last": as_base64(last, "f8"),
        "count": as_base64(stop - start, "i4"),
        "merged": placed.merged,
        "n_steps": len(steps),
    }


def _rows(data: xr.DataArray, placed: Columns) -> dict[str, Any]:
    """Names and numbers of each row, the input first."""
    names = [str(name) for name in data[row_dim(data)].values]
    stages = data["stage"].values if "stage" in data.coords else np.zeros(len(names))
    borders = np.flatnonzero(np.diff(stages)) + 0.5 if stages.dtype.kind in "iuf" else np.zeros(0)
    grid = encode(placed.values, placed.states)
    return {
        "names": names,
        "short": clip_apart(row_labels(data)),
        "borders": borders.tolist() if borders.size <= len(names) / 2 else [],
        "codes": as_base64(grid.codes, "u2"),
        "low": grid.low.tolist(),
        "step": grid.step.tolist(),
        "precision": grid.precision,
    }

"""What tells runs apart, as words for a legend and columns of a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from gradscope.derived.compare.conditions import differences
from gradscope.plots.axes.scales import signed


def conditions(tree: xr.DataTree, *, with_seed: bool = False) -> list[str]:
    """Name the condition of each run: what differs, apart from the seed; else the run's name."""
    found = differences(tree)
    if with_seed and "seed" in tree.dataset.coords and tree.dataset["seed"].dims == ("run",):
        found = {**found, "seed": tree.dataset["seed"].values}
    n_runs = tree.dataset.sizes["run"]
    if not found:
        return (
            tree.dataset["run"].values.astype(str).tolist() if with_seed else ["all runs"] * n_runs
        )
    return [
        ", ".join(f"{_symbol(name)} = {_short(values[run])}" for name, values in found.items())
        for run in range(n_runs)
    ]


def conditions_by_run(tree: xr.DataTree) -> dict[str, str]:
    """Return the condition of each run by the run's name."""
    return dict(zip(tree.dataset["run"].values.tolist(), conditions(tree), strict=True))


def _symbol(name: str) -> str:
    return {"alpha": "α", "weight_decay": "λ"}.get(name, name)


def _short(value: object) -> str:
    return signed(float(value)) if isinstance(value, float | np.floating) else str(value)


def last_values(tree: xr.DataTree, metric: str) -> pd.DataFrame:
    """Return one row a run: its last value of a metric, and what tells it apart."""
    values = tree["evaluation"].dataset[metric].load()
    rows = values.transpose("run", "step").values
    last = [row[np.isfinite(row)][-1:].tolist() or [np.nan] for row in rows]
    table = pd.DataFrame({"run": tree.dataset["run"].values, metric: np.ravel(last)})
    for name in ("alpha", "lr", "seed", *differences(tree)):
        if name in tree.dataset.coords:
            table[name] = tree.dataset[name].values
        elif name in tree.attrs and name not in table:
            table[name] = tree.attrs[name]
    return table

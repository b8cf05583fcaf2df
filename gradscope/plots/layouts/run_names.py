"""What tells runs apart, as words for a legend and columns of a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from gradscope.derived.compare.conditions import (
    MISSING,
    differences,
    short,
    telling_settings,
)
from gradscope.plots.axes.scales import signed

MAX_NAMED = 4
"""Settings in the name of a condition; in a picture, more would leave no room for the rest."""


def conditions(tree: xr.DataTree, *, with_seed: bool = False) -> list[str]:
    """Name the condition of each run: what differs, apart from the seed; else the run's name.

    At most `MAX_NAMED` settings, unless more are needed to tell conditions apart; none where it is
    missing.
    """
    found = differences(tree)
    chosen, _ = telling_settings(found, MAX_NAMED)
    if with_seed and "seed" in tree.dataset.coords and tree.dataset["seed"].dims == ("run",):
        found, chosen = {**found, "seed": tree.dataset["seed"].values}, [*chosen, "seed"]
    names = tree.dataset["run"].values.astype(str).tolist()
    if not chosen:
        return names if with_seed else ["all runs"] * len(names)
    known = [[n for n in chosen if short(found[n][run]) != MISSING] for run in range(len(names))]
    without = f"no {', '.join(map(_symbol, chosen))}"
    return [
        ", ".join(f"{_symbol(n)} = {_short(found[n][run])}" for n in own) or without
        for run, own in enumerate(known)
    ]


def name_conditions(tree: xr.DataTree, *tables: pd.DataFrame) -> list[pd.DataFrame]:
    """Add a column ``run is`` to tables of one figure: the condition of each row's ``run``.

    It is categorical, so that a condition has the same colour in each panel.
    """
    names = dict(zip(tree.dataset["run"].values.tolist(), conditions(tree), strict=True))
    known = {names[run] for table in tables for run in table["run"].unique()}
    kind = pd.CategoricalDtype([name for name in dict.fromkeys(names.values()) if name in known])
    return [table.assign(**{"run is": table["run"].map(names).astype(kind)}) for table in tables]


def _symbol(name: str) -> str:
    return {"alpha": "α", "weight_decay": "λ"}.get(name, name.removesuffix("_name"))


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

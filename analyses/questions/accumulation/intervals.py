"""Means over seeds with their 95 % t intervals: what the figures of this question draw."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.study.question import Tables
from gradscope.stats.intervals.student_t import student_t_bounds

STABILITY = {
    "roughness": ("roughness of gradients", "nat"),
    "coherence": ("coherence of gradients", "1"),
    "late_slope": ("depth slope of ln output_grad in the last 10 % of the steps", "nat a layer"),
}
"""What is compared over alpha at one global step size: in words, and its unit."""


def intervals(tables: Tables) -> dict[str, pd.DataFrame]:
    """Return ``slope_means``, ``balance_means`` and ``stability_means``, where there are runs.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Measured tables.

    Returns
    -------
    dict of str to DataFrame
        One row a case: its labels, ``mean``, ``low``, ``high`` (nan for a single seed) and ``n``.
    """
    found = {}
    if "slopes" in tables:
        labels = ["spec", "net", "phase", "quantity"]
        found["slope_means"] = means(tables["slopes"], labels, "slope")
    if "deviation" in tables.get("equilibrium", pd.DataFrame()):
        found["balance_means"] = means(tables["equilibrium"], ["decay", "alpha"], "deviation")
    if "roughness" in tables.get("grafting", pd.DataFrame()):
        found["stability_means"] = _stability(tables["grafting"])
    return found


def _stability(grafting: pd.DataFrame) -> pd.DataFrame:
    """Stability of VGG13 whose whole step is alpha's, at the global size of alpha = 0."""
    own = grafting[(grafting["net"] == "vgg13") & grafting["arm"].isin(["zero", "full"])]
    parts = [means(own, ["alpha"], name).assign(quantity=name) for name in STABILITY if name in own]
    return pd.concat(parts, ignore_index=True)


def means(table: pd.DataFrame, labels: list[str], values: str) -> pd.DataFrame:
    """Average a column over the rows that share their labels; missing values are left out.

    >>> rows = pd.DataFrame({"net": ["a", "a", "b"], "slope": [1.0, 3.0, 5.0]})
    >>> means(rows, ["net"], "slope")["mean"].tolist()
    [2.0, 5.0]
    """
    rows = []
    for key, own in table.groupby(labels, sort=False):
        sample = own[values].dropna().to_numpy(dtype=np.float64)
        if not len(sample):
            continue
        low, high = student_t_bounds(sample)
        labelled = dict(zip(labels, key, strict=True))
        rows.append(
            {**labelled, "mean": float(sample.mean()), "low": low, "high": high, "n": len(sample)}
        )
    return pd.DataFrame(rows, columns=[*labels, "mean", "low", "high", "n"])


def by_arm(tables: Tables, values: str) -> pd.DataFrame:
    """Return a value of the grafted VGG13 runs: rows are seeds, columns (arm, alpha)."""
    table = tables.get("grafting")
    if table is None or values not in table:
        return pd.DataFrame()
    own = table[table["net"] == "vgg13"]
    return own.pivot_table(index="seed", columns=["arm", "alpha"], values=values)


def two_by_two(tables: Tables) -> pd.DataFrame:
    """Return the contrasts of layer shares and directions, one a seed, of the last ln loss."""
    columns = ["alpha", "effect", "seed", "value"]
    wide = by_arm(tables, "train_loss")
    nothing = pd.DataFrame(columns=columns)
    if not len(wide):
        return nothing
    logs, parts = np.log(wide), [nothing]
    # A killed study may lack an arm: an alpha is taken apart where all four cells are there.
    has = set(logs.columns)
    alphas = sorted(alpha for arm, alpha in has if arm == "layer")
    for alpha in alphas:
        if not {("zero", 0.0), ("full", alpha), ("direction", alpha)} <= has:
            continue
        zero, full = logs["zero", 0.0], logs["full", alpha]
        layer, direction = logs["layer", alpha], logs["direction", alpha]
        contrasts = {
            "all of it": full - zero,
            "shares of the layers": (layer - zero + full - direction) / 2,
            "directions within layers": (direction - zero + full - layer) / 2,
            "interaction": full - layer - direction + zero,
            "y_layer - (y_full + y_0) / 2": layer - (full + zero) / 2,
        }
        parts += [
            pd.DataFrame({"alpha": alpha, "effect": name, "seed": own.index, "value": own.values})
            for name, own in contrasts.items()
        ]
    return pd.concat([part for part in parts if len(part)] or [nothing])[columns].dropna()

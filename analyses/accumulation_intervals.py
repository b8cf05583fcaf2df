"""Means over seeds with their 95 % t intervals: what the figures of this question draw."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.question import Tables
from gradscope.stats.student_t import student_t_mean


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
    parts = [
        means(own, ["alpha"], name).assign(quantity=name) for name in ("roughness", "coherence")
    ]
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
        row = {**dict(zip(labels, key, strict=True)), "mean": float(sample.mean())}
        bounds = student_t_mean(sample) if len(sample) > 1 else None
        row |= {
            "low": bounds.low if bounds else float("nan"),
            "high": bounds.high if bounds else float("nan"),
            "n": len(sample),
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=[*labels, "mean", "low", "high", "n"])

"""The learning rate of runs as their schedule, as far as all of them went."""

from __future__ import annotations

import numpy as np
import xarray as xr


def lr_schedules(tree: xr.DataTree) -> np.ndarray | None:
    """Name the schedule of each run: first value, peak, last value that all runs reached.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_runs`.

    Returns
    -------
    ndarray of str, shape (n_runs,), or None
        Such as ``"1e-05 → 0.1 → 0"``; one number where it is constant. None if no run's learning
        rate changes.
    """
    node = tree.children.get("training")
    if node is None or "lr" not in node.data_vars:
        return None
    lr = node.dataset["lr"]
    if "param_group" in lr.dims:
        lr = lr.isel(param_group=0)
    values = lr.transpose("run", "step").values.astype(float)
    known = [np.flatnonzero(np.isfinite(own)) for own in values]
    if any(not places.size for places in known):
        return None
    end = min(places[-1] for places in known)
    words = [
        _describe(own[places[places <= end]]) for own, places in zip(values, known, strict=True)
    ]
    return np.array(words) if any("→" in text for text in words) else None


def _describe(lr: np.ndarray) -> str:
    """Return the turning points of a schedule.

    >>> _describe(np.array([0.0, 0.1, 0.05])), _describe(np.array([0.1, 0.01]))
    ('0 → 0.1 → 0.05', '0.1 → 0.01')
    """
    points = [float(f"{value:.4g}") for value in (lr[0], lr.max(), lr[-1])] if lr.size else []
    return " → ".join(
        f"{value:g}" for i, value in enumerate(points) if value not in points[max(i - 1, 0) : i]
    )

"""Gradients of runs on different data, compared at equal step and at equal normalised loss.

With many classes the loss starts higher and falls later, so that gradients at an equal step are
those of different stages of training. The loss over ln(classes) is 1 for guessing whatever the
number of classes: at an equal value of it runs are as far as each other. The number of classes is
that of the data, also where the head has more outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses.measures.depth_slopes import layer_profiles, within_stage_slopes
from analyses.measures.outcomes import steps_to, training_loss

NORMALISED_LOSS = 0.5
"""Loss over ln(classes) that runs are compared at; fixed before any run."""
MIDDLE = (0.4, 0.6)
"""Shares of the run between which it is looked at where runs are compared at equal steps."""
WINDOW = 1 / 20
"""Share of the run that is averaged once the loss level is reached."""


def matched_rows(tree: xr.DataTree, n_classes: int) -> Iterator[dict[str, Any]]:
    """Measure the gradients of a run at equal step and at equal loss.

    Parameters
    ----------
    tree : DataTree
        A recording with ``/training``, ``/gradients``, ``/updates`` and ``/activations``.
    n_classes : int
        Classes of its data.

    Yields
    ------
    dict
        ``matched`` ("step" or "loss"), ``step`` (where it was looked at), ``output_grad_slope`` and
        ``grad_slope`` (within stages, nat a layer, growing toward the output), ``sparsity`` and
        ``head_sparsity``: mean ln kurtosis about zero of the gradients of inner weights and of the
        head, 1.1 (ln 3) for normal entries and higher where few entries carry the gradient. A loss
        that was never reached leaves them nan.
    """
    profiles = layer_profiles(tree)
    steps = profiles["step"].values
    loss = training_loss(tree)
    n_steps = int(loss["step"][-1])
    first, last = (int(share * n_steps) for share in MIDDLE)
    windows = {"step": (first, (steps >= first) & (steps <= last))}
    reached, is_reached = steps_to(loss, NORMALISED_LOSS * np.log(n_classes))
    after = (steps >= reached) & (steps <= reached + WINDOW * n_steps)
    windows["loss"] = (reached, after if is_reached else np.zeros(len(steps), dtype=bool))
    for matched, (step, rows) in windows.items():
        yield {"matched": matched, "step": step, **_shape(tree, profiles, rows)}


def _shape(tree: xr.DataTree, profiles: xr.Dataset, rows: NDArray[np.bool_]) -> dict[str, float]:
    """Depth slopes and sparsity, averaged over the rows."""
    names = ("output_grad_slope", "grad_slope", "sparsity", "head_sparsity")
    if not rows.any():
        return dict.fromkeys(names, float("nan"))
    inner = profiles.isel(layer=np.flatnonzero(profiles["is_inner"].values), step=rows)
    gradients = tree.children["gradients"].to_dataset(inherit=False)
    weights = np.flatnonzero(gradients["kind"].values == "weight")
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = np.log(gradients["grad_kurtosis"].isel(param=weights, step=rows).values)
        profile = {name: np.log(inner[name].values) for name in ("output_grad_rms", "grad_rms")}
    where = inner["depth"].values.astype(float), inner["stage"].values
    slopes = [within_stage_slopes(values, *where) for values in profile.values()]
    sparsities = kurtosis[:, 1:-1], kurtosis[:, -1]
    found = [_mean(values) for values in (*slopes, *sparsities)]
    return dict(zip(names, found, strict=True))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")

"""Slope of the logarithm of a quantity over depth, one number per step of a recording.

The slope of the natural logarithm over depth, within stages: every stage (stretch of equal
resolution) has its own intercept, all share one slope. The first weight layer and the head stand
apart: their fan-in and their inputs are of another kind. Positive means growing toward the output.

Quantities disagree, and that is a result: in batch-norm VGG the RMS gradient falls with depth while
|g||w| rises, so "the accumulation" has no sign before the quantity is named.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gradscope.errors import RecordingError
from gradscope.stats.slopes.ols import ols_slopes

QUANTITIES = {
    "output_grad_rms": "activations",
    "grad_rms": "gradients",
    "grad_param_product": "updates",
    "update_ratio": "updates",
}
"""What slopes are taken of, and the group that holds it."""


def within_stage_slopes(
    values: NDArray[np.float64], depth: NDArray[np.float64], stage: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Fit one slope over depth to all stages, each with an intercept of its own.

    Parameters
    ----------
    values : ndarray, shape (n_steps, n_layers)
    depth, stage : ndarray, shape (n_layers,)
        A stage of one layer has an intercept and says nothing of the slope.

    Returns
    -------
    ndarray, shape (n_steps,)
        Per layer; nan where a value of the step is not finite or no stage has two layers.

    Examples
    --------
    Both stages rise by 1 a layer; the step between them is no slope.

    >>> within_stage_slopes(np.array([[0.0, 1.0, -7.0, -6.0]]), np.arange(4.0),
    ...                     np.array([0, 0, 1, 1]))
    array([1.])
    """
    y, x = np.array(values, dtype=np.float64), np.array(depth, dtype=np.float64)
    # An infinite logarithm (a gradient of zero) must not leave a slope through the other layers.
    y[~np.isfinite(y).all(axis=1)] = np.nan
    for one in np.unique(stage):
        of = stage == one
        y[:, of] -= y[:, of].mean(axis=1, keepdims=True)
        x[of] -= x[of].mean()
    return ols_slopes(y, x)


def layer_profiles(tree: xr.DataTree) -> xr.Dataset:
    """Return the quantities of every weight layer that the slopes are taken of.

    Parameters
    ----------
    tree : DataTree
        A recording with ``/gradients``, ``/updates`` and ``/activations``.

    Returns
    -------
    Dataset, dims (step, layer)
        Variables named in ``QUANTITIES``, with ``depth``, ``stage`` and ``is_inner`` (neither the
        first weight layer nor the last) along ``layer``.

    Raises
    ------
    RecordingError
        If a group is missing, or fewer than four weight layers were recorded.
    """
    for group in dict.fromkeys(QUANTITIES.values()):
        if group not in tree.children:
            raise RecordingError(f"depth slopes need /{group}, which was not recorded")
    gradients = tree.children["gradients"].to_dataset(inherit=False)
    own = np.flatnonzero(gradients["kind"].values == "weight")
    layers, depth = gradients["layer"].values[own], gradients["depth"].values[own]
    if len(own) < 4:
        raise RecordingError(f"depth slopes need four weight layers; this net has {len(own)}")
    found = {}
    for name, group in QUANTITIES.items():
        data = tree.children[group].to_dataset(inherit=False)[name]
        picked = data.sel(layer=layers) if group == "activations" else data.isel(param=own)
        found[name] = (("step", "layer"), np.asarray(picked.values, dtype=np.float64))
    coordinates = {
        "step": gradients["step"].values,
        "layer": layers,
        "depth": ("layer", depth),
        "stage": ("layer", gradients["stage"].values[own]),
        "is_inner": ("layer", (depth > depth.min()) & (depth < depth.max())),
    }
    return xr.Dataset(found, coords=coordinates)


def depth_slopes(tree: xr.DataTree) -> xr.Dataset:
    """Estimate the within-stage slope of each quantity's logarithm at every recorded step.

    Parameters
    ----------
    tree : DataTree
        A recording with ``/gradients``, ``/updates`` and ``/activations``.

    Returns
    -------
    Dataset, dims (step,)
        Variables named in ``QUANTITIES``, in nat a layer; positive grows toward the output. One
        run gives one such number: layers and steps are repeated measures, test over runs.

    Raises
    ------
    RecordingError
        If a group is missing, or fewer than four weight layers were recorded.
    """
    profiles = layer_profiles(tree)
    inner = profiles.isel(layer=np.flatnonzero(profiles["is_inner"].values))
    slopes = {}
    for name in QUANTITIES:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(inner[name].values)
        slope = within_stage_slopes(logs, inner["depth"].values, inner["stage"].values)
        attrs = {"long_name": f"depth slope of ln {name}", "units": "nat"}
        slopes[name] = ("step", slope, attrs)
    return xr.Dataset(slopes, coords={"step": profiles["step"].values})


def phase_means(slopes: xr.Dataset, n_steps: int) -> dict[str, dict[str, float]]:
    """Average slopes over the phases of training.

    Parameters
    ----------
    slopes : Dataset, dims (step,)
        From `depth_slopes`.
    n_steps : int
        Length of the run: a phase is a share of it.

    Returns
    -------
    dict
        By phase: ``start`` (the first step), ``1 %`` (0.5 to 1.5 %), ``10 %`` (9.5 to 10.5 %) and
        ``last 10 %``, each with one number a quantity; nan where nothing was recorded.
    """
    share = slopes["step"].values / n_steps
    windows = {
        "start": slopes["step"].values == 1,
        "1 %": (share >= 0.005) & (share <= 0.015),
        "10 %": (share >= 0.095) & (share <= 0.105),
        "last 10 %": share > 0.9,
    }
    return {
        phase: {str(name): _mean(values.values[rows]) for name, values in slopes.items()}
        for phase, rows in windows.items()
    }


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")

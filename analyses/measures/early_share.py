"""Share of the early third of the layers in descent and turning, after the start has decayed.

Shares of raw update energy follow from the update law by arithmetic and would be no finding. These
are of what works: descent, -<g, u>, and the angle by which each weight turns.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import xarray as xr

from analyses.measures.equilibrium import AGE_NEEDED, decay_rate, options_at
from gradscope.stats.slopes.ols import ols_slopes

EARLY = 1 / 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyShare:
    """Shares of the early third in one run.

    Parameters
    ----------
    descent, turning : float
        Share of the early third of the weight layers in the summed descent and in the summed angle
        of turning (radian), over the steps of the window.
    gradient_slope : float
        Of ln grad_rms over the depth of inner weight layers, nat a layer; positive grows toward
        the output.
    age : float
        Age of the youngest weight at the end, the integral of 2 lr lambda (coupled: times
        v^(-alpha)).
    is_old : bool
        Whether the window begins at age 3; else it is the last half of the run.
    """

    descent: float
    turning: float
    gradient_slope: float
    age: float
    is_old: bool


def early_share(tree: xr.DataTree, *, is_decoupled: bool) -> EarlyShare:
    """Measure the shares of the early third of the weight layers.

    Parameters
    ----------
    tree : DataTree
        A recording with ``/gradients``, ``/second_moments`` and ``/updates``, trained with weight
        decay and one alpha.
    is_decoupled : bool
        Whether the decay is outside the moments.

    Returns
    -------
    EarlyShare

    Raises
    ------
    RecordingError
        If there was no weight decay.
    """
    updates = tree.children["updates"].to_dataset(inherit=False)
    columns = np.flatnonzero(updates["kind"].values == "weight")
    steps = updates["step"].values
    age = _age(tree, columns, steps, is_decoupled=is_decoupled)
    is_old = bool(age[-1] >= AGE_NEEDED)
    late = age >= AGE_NEEDED if is_old else steps > (steps[0] + steps[-1]) / 2
    own = updates.isel(param=columns, step=late).astype(float)
    is_early = own["relative_depth"].values <= EARLY + 1e-9
    cosine = own["update_param_cosine"].clip(-1, 1)
    angle = own["update_norm"] / own["param_norm"] * np.sqrt(1 - cosine**2)
    gradient = tree.children["gradients"].to_dataset(inherit=False)["grad_rms"]
    inner = gradient.isel(param=columns[1:-1], step=late).astype(float)
    profile = xr.DataArray(np.log(inner)).mean("step").values
    return EarlyShare(
        descent=_share(own["descent"], is_early),
        turning=_share(angle, is_early),
        gradient_slope=float(ols_slopes(profile, updates["depth"].values[columns[1:-1]])),
        age=float(age[-1]),
        is_old=is_old,
    )


def _age(
    tree: xr.DataTree, columns: np.ndarray, steps: np.ndarray, *, is_decoupled: bool
) -> np.ndarray:
    """Age of the youngest weight at each recorded step."""
    rate = decay_rate(tree, columns, options_at(tree, steps), is_decoupled=is_decoupled)
    age: np.ndarray = np.cumsum(rate * np.diff(steps, prepend=0)[:, None], axis=0)
    youngest: np.ndarray = age.min(axis=1)
    return youngest


def _share(values: xr.DataArray, is_early: np.ndarray) -> float:
    total = values.sum("step").values
    return float(total[is_early].sum() / total.sum())

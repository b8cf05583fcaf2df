"""Equilibrium of batch norm and weight decay in one recording.

A weight before batch norm is scale-invariant: its gradient is orthogonal to it, so steps lengthen
it and decay shortens it, until both balance. If gradients of different steps are uncorrelated, a
random walk with momentum balances at

    update_ratio = sqrt(2 lr lambda s (1 - beta1) / (1 + beta1)),

s = 1 with decoupled decay, whatever alpha, and s = mean v_hat^(-alpha) with coupled decay, where
lambda w runs through the same denominator as the gradient (arXiv 2305.17212 for Adam and SGD). So
over the layers of one net the logarithm of update_ratio against that of grad_rms has slope 0
(decoupled) or -alpha (coupled).

Correlated gradients shift the level, and the slope too where the correlation differs with depth:
the prediction is of gradients that are mostly noise.

Age alone does not make an equilibrium. A weight that starts far above its balance shrinks at the
full rate of decay until it is there, however old: at age 6 by a factor of 20, which may not be
enough. So it is measured whether norms are at rest: their drift in the window, as a share of the
rate of decay, is 0 in balance and -1 where decay meets no steps.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gradscope.errors import RecordingError
from gradscope.stats.slopes.ols import ols_slopes

AGE_NEEDED = 3.0
"""Age at which the start has decayed to exp(-3) of its squared norm's excess."""
DRIFT_ALLOWED = 0.25
"""Share of the decay rate by which squared norms may still change. At balance to a share d the
update ratio is off by ln(1 + d) / 2, here 0.1 to 0.15 nat."""
WINDOW = 0.5
"""Share of the run, at its end, that is averaged."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Equilibrium:
    """State of the scale-invariant weights of one run.

    Parameters
    ----------
    layers : Dataset, dims (layer,)
        ``grad_rms`` and ``update_ratio`` (root mean squares over the window), ``level`` (the ratio
        predicted for uncorrelated gradients), ``age``, ``drift`` (change of ln squared norm per
        step over the decay rate, in the window) and ``depth``.
    slope : float
        Of ln update_ratio against ln grad_rms over the layers.
    predicted : float
        0 with decoupled decay, -alpha with coupled.
    alpha : float
    """

    layers: xr.Dataset
    slope: float
    predicted: float
    alpha: float

    @property
    def deviation(self) -> float:
        """Measured slope minus predicted slope: what the claim says is 0."""
        return self.slope - self.predicted

    @property
    def age(self) -> float:
        """Age of the youngest layer; below 3 the start still shows."""
        return float(self.layers["age"].min())

    @property
    def drift(self) -> float:
        """Drift of the layer that is farthest from rest: 0 in balance, -1 in free decay."""
        drift = self.layers["drift"].values
        return float(drift[np.abs(drift).argmax()])

    @property
    def spread(self) -> float:
        """Standard deviation of ln grad_rms over the layers: what the slope is measured by."""
        return float(np.log(self.layers["grad_rms"]).std())


def equilibrium(tree: xr.DataTree, *, is_decoupled: bool, window: float = WINDOW) -> Equilibrium:
    """Measure the balance of steps and decay in every scale-invariant weight.

    Parameters
    ----------
    tree : DataTree
        A recording of a net with batch norm, with ``/gradients``, ``/second_moments`` and
        ``/updates``, trained with weight decay and one alpha.
    is_decoupled : bool
        Whether the decay is outside the moments, as in AdamW; recordings of other training do not
        say it.
    window : float, default 0.5
        Share of the recorded steps, at the end, over which squares are averaged.

    Returns
    -------
    Equilibrium

    Raises
    ------
    RecordingError
        If a group is missing, fewer than three weights are scale-invariant, there was no weight
        decay, or the optimizer has no alpha.
    """
    updates, columns = _scale_invariant(tree)
    steps = updates["step"].values
    options = options_at(tree, steps)
    ratio = _column(tree, "updates", "update_ratio", columns)
    gradient = _column(tree, "gradients", "grad_rms", columns)
    decay = decay_rate(tree, columns, options, is_decoupled=is_decoupled)
    late = steps > steps[0] + (1 - window) * (steps[-1] - steps[0])
    log_square = 2 * np.log(_column(tree, "updates", "param_norm", columns)[late])
    memory = (1 - options["beta1"][late]) / (1 + options["beta1"][late])
    found = {
        "grad_rms": _root_mean_square(gradient[late]),
        "update_ratio": _root_mean_square(ratio[late]),
        "level": np.sqrt((decay[late] * memory[:, None]).mean(axis=0)),
        "age": np.trapezoid(decay, steps, axis=0),
        "drift": ols_slopes(log_square, steps[late], axis=0) / decay[late].mean(axis=0),
    }
    depth = updates["depth"].values[columns]
    layers = xr.Dataset(
        {name: ("layer", values) for name, values in found.items()},
        coords={"layer": updates["layer"].values[columns], "depth": ("layer", depth)},
    )
    alpha = float(options["alpha"][-1])
    return Equilibrium(
        layers=layers,
        slope=float(ols_slopes(np.log(found["update_ratio"]), np.log(found["grad_rms"]))),
        predicted=0.0 if is_decoupled else -alpha,
        alpha=alpha,
    )


def _scale_invariant(tree: xr.DataTree) -> tuple[xr.Dataset, NDArray[np.int64]]:
    """Columns of weights that batch norm follows: some batch norm has their depth."""
    for group in ("gradients", "second_moments", "updates"):
        if group not in tree.children:
            raise RecordingError(f"the equilibrium needs /{group}, which was not recorded")
    updates = tree.children["updates"].to_dataset(inherit=False)
    kinds, types = updates["kind"].values, updates["layer_type"].values.astype(str)
    is_norm = (kinds == "norm_weight") & (np.char.find(types, "BatchNorm") >= 0)
    normed = updates["depth"].values[is_norm]
    columns = np.flatnonzero((kinds == "weight") & np.isin(updates["depth"].values, normed))
    if len(columns) < 3:
        raise RecordingError(
            f"the equilibrium needs three weights before batch norm; this net has {len(columns)}"
        )
    return updates, columns


def options_at(tree: xr.DataTree, steps: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return hyper-parameters of the first parameter group at recorded steps.

    Raises
    ------
    RecordingError
        If there was no weight decay, or the optimizer has no alpha.
    """
    training = tree.children["training"].to_dataset(inherit=False).sel(step=steps)
    names = ("lr", "alpha", "beta1", "beta2", "weight_decay")
    found = {name: np.asarray(training[name].values[:, 0], dtype=np.float64) for name in names}
    if not (found["weight_decay"] > 0).all():
        raise RecordingError("the equilibrium needs weight decay; this run had none")
    if not np.isfinite(found["alpha"]).all():
        raise RecordingError("the equilibrium needs SMES, Adam or SGD; this optimizer has no alpha")
    return found


def _column(
    tree: xr.DataTree, group: str, name: str, columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    data = tree.children[group].to_dataset(inherit=False)[name].isel(param=columns)
    return np.asarray(data.values, dtype=np.float64)


def decay_rate(
    tree: xr.DataTree,
    columns: NDArray[np.int64],
    options: dict[str, NDArray[np.float64]],
    *,
    is_decoupled: bool,
) -> NDArray[np.float64]:
    """Return the rate 2 lr lambda s at which squared norms shrink, at (step, weight).

    Its integral over the steps is the age.
    """
    plain = (2 * options["lr"] * options["weight_decay"])[:, None]
    if is_decoupled:
        return np.broadcast_to(plain, (len(plain), len(columns)))
    alpha = options["alpha"][:, None]
    age = _column(tree, "second_moments", "state_step", columns)
    correction = -np.expm1(age * np.log(options["beta2"])[:, None])
    mean = _column(tree, "second_moments", "log_exp_avg_sq_mean", columns) - np.log(correction)
    variance = _column(tree, "second_moments", "log_exp_avg_sq_var", columns)
    # Mean of v^(-alpha) for a log-normal v; mean and variance of ln v are recorded.
    return plain * np.exp(-alpha * mean + alpha**2 * variance / 2)


def _root_mean_square(values: NDArray[np.float64]) -> NDArray[np.float64]:
    mean_square: NDArray[np.float64] = np.square(values).mean(axis=0)
    return np.sqrt(mean_square)

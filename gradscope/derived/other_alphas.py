"""Shadow alpha: what another exponent would do to the next step, at each recorded state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from gradscope.errors import RecordingError


def shadow_alpha(tree: xr.DataTree, alphas: Sequence[float]) -> xr.Dataset:
    """Compute the next step under other exponents of the second moment.

    With v_hat = v / (1 - beta2^t) from the octaves of ``exp_avg_sq_histogram``:

    ``shadow_multiplier`` = mean of 1 / (v_hat^alpha + eps) over entries with v > 0;
    ``shadow_update_rms`` = lr sqrt(q mean[v_hat / (v_hat^alpha + eps)^2]),
    q = sum m_hat^2 / sum v_hat, the ``signal_fraction``.

    Parameters
    ----------
    tree : DataTree
        A recording with ``/histograms``, ``/second_moments`` and ``/training``.
    alphas : sequence of float
        Exponents: 0.5 is Adam, 0 momentum SGD.

    Returns
    -------
    Dataset, dims (alpha, step, param)
        At the steps of ``/histograms``. NaN where moments lie above the last octave, at steps
        that another group does not hold, and for parameters of no optimizer.

    Raises
    ------
    RecordingError
        If the recording lacks what is needed.

    Notes
    -----
    **It says nothing of training with another alpha**: the states are those that the recorded
    optimizer visited; another alpha would have gone elsewhere after one step.

    Each entry is taken at the geometric middle of its octave, so the multiplier is exact to half
    an octave times abs(alpha), a factor 2^(abs(alpha) / 2). ``shadow_update_rms`` further takes
    m_hat^2 to be proportional to v_hat within a parameter, on average.

    References
    ----------
    arXiv 2405.18498, the update rule.
    """
    counts, v_hat, eps, lr, signal = _state(tree)
    n_positive = counts.sum("moment_bin")
    multipliers, updates = [], []
    for alpha in alphas:
        inverse = _inverse_denominator(v_hat, float(alpha), eps)
        multipliers.append((counts * inverse).sum("moment_bin") / n_positive)
        mean_square = (counts * v_hat * inverse**2).sum("moment_bin") / _n_entries(tree, n_positive)
        updates.append(lr * np.sqrt(signal * mean_square))
    index = xr.Variable("alpha", np.asarray(alphas, dtype=float), {"long_name": "shadow alpha"})
    # A sum over terms that are all missing would be 0.
    is_known = _is_within_bins(tree, counts) & v_hat.notnull().all("moment_bin") & eps.notnull()
    names = {"shadow_multiplier": multipliers, "shadow_update_rms": updates}
    return xr.Dataset(
        {
            name: xr.concat(parts, index, coords="minimal", compat="override")
            .where(is_known)
            .transpose("alpha", "step", "param")
            .assign_attrs(_ATTRS[name])
            for name, parts in names.items()
        }
    )


_ATTRS = {
    "shadow_multiplier": {
        "long_name": "mean multiplier of the first moment under another alpha",
        "units": "1",
        "formula": "mean 1 / (v_hat^alpha + eps)",
    },
    "shadow_update_rms": {
        "long_name": "root mean square of the next update under another alpha",
        "units": "1",
        "formula": "lr sqrt(q mean v_hat / (v_hat^alpha + eps)^2)",
    },
}


def _inverse_denominator(v_hat: xr.DataArray, alpha: float, eps: xr.DataArray) -> xr.DataArray:
    """1 / (v^alpha + eps), written so that negative exponents do not overflow."""
    if alpha >= 0:
        return 1 / (v_hat**alpha + eps)
    power = v_hat ** (-alpha)
    return power / (1 + eps * power)


def _state(tree: xr.DataTree) -> tuple[xr.DataArray, ...]:
    """Counts by octave, v_hat of each octave, eps, lr and signal fraction, at (step, param)."""
    counts = _need(tree, "histograms", "exp_avg_sq_histogram").astype(np.float64)
    moments = {
        name: _need(tree, "second_moments", name).reindex(step=counts.step, param=counts.param)
        for name in ("state_step", "signal_fraction")
    }
    groups = {name: _of_param(tree, name, counts) for name in ("beta2", "eps", "lr")}
    correction = -np.expm1(moments["state_step"] * np.log(groups["beta2"]))
    v_hat = 2.0 ** (counts.moment_bin + 0.5) / correction
    return counts, v_hat, groups["eps"], groups["lr"], moments["signal_fraction"]


def _need(tree: xr.DataTree, group: str, name: str) -> xr.DataArray:
    if group not in tree.children or name not in tree[group].data_vars:
        raise RecordingError(f"shadow alpha needs /{group}/{name}, which was not recorded")
    return tree[group].dataset[name].load()


def _of_param(tree: xr.DataTree, name: str, counts: xr.DataArray) -> xr.DataArray:
    """Return a hyper-parameter of each parameter's group at the steps of ``counts``.

    NaN at steps without a row, and for a parameter of no group.
    """
    values = _need(tree, "training", name).reindex(step=counts.step)
    if "param_group" not in counts.coords:
        return values.isel(param_group=0, drop=True)
    own = counts["param_group"]
    known = values.reindex(param_group=np.unique(own.values))
    return known.sel(param_group=own).drop_vars("param_group")


def _n_entries(tree: xr.DataTree, n_positive: xr.DataArray) -> xr.DataArray:
    zeros = tree["histograms"].data_vars.get("exp_avg_sq_histogram_zero")
    return n_positive if zeros is None else n_positive + zeros.load().fillna(0)


def _is_within_bins(tree: xr.DataTree, counts: xr.DataArray) -> xr.DataArray:
    is_known = counts.notnull().all("moment_bin")
    for kind in ("over", "nonfinite"):
        outside = tree["histograms"].data_vars.get(f"exp_avg_sq_histogram_{kind}")
        if outside is not None:
            is_known &= ~(outside.load() > 0)
    return is_known

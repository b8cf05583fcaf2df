"""How steadily gradients go on from step to step, one number a run.

*Roughness*: the standard deviation of ln grad_rms from one recorded step to the next, over sqrt(2),
so that a slow drift does not count. *Coherence*: the signal fraction sum m_hat^2 / sum v_hat, what
survives of the gradient in its own moving average; uncorrelated gradients give
(1 - beta1) / (1 + beta1), less means that successive gradients oppose each other. Both are medians
over the weights of the weight layers.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gradscope.errors import RecordingError


def roughness(tree: xr.DataTree) -> float:
    """Return the step-to-step standard deviation of ln grad_rms, in nat."""
    logs = np.log(_weights(tree, "gradients", "grad_rms"))
    steps = np.diff(logs, axis=0)
    return float(np.median(np.nanstd(np.where(np.isfinite(steps), steps, np.nan), axis=0)) / 2**0.5)


def coherence(tree: xr.DataTree, *, window: float = 0.5) -> float:
    """Return the signal fraction, averaged over the last ``window`` of the recorded steps."""
    values = _weights(tree, "second_moments", "signal_fraction")
    late = values[int((1 - window) * len(values)) :]
    return float(np.median(np.nanmean(late, axis=0)))


def _weights(tree: xr.DataTree, group: str, name: str) -> NDArray[np.float64]:
    if group not in tree.children:
        raise RecordingError(f"gradient stability needs /{group}, which was not recorded")
    data = tree.children[group].to_dataset(inherit=False)
    own = np.flatnonzero(data["kind"].values == "weight")
    return np.asarray(data[name].isel(param=own).values, dtype=np.float64)

"""Is what was recorded what happened? No hypothesis: what must hold before any slope is believed.

Three checks. *Exact*: the recorded norm of each update equals that of the update recomputed in
float64 from the gradients alone, through m_hat, v_hat and theta, to 1e-5 (no weight decay).
*Law*: RMS(u)^2 = lr^2 q E[v_hat^(1 - 2 alpha)], q = sum m_hat^2 / sum v_hat, from the recorded
histogram of v, to 0.05 nat beyond its sampling error. *Orthogonality*: a weight before batch norm
has a gradient orthogonal to it.

References
----------
The law follows from the update rule of arXiv 2405.18498 if m_hat^2 is proportional to v_hat within
a tensor. Orthogonality: arXiv 1607.06450, section 5.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from gradscope.derived.other_alphas import shadow_alpha
from gradscope.optim.smes import SMES
from gradscope.record.recorder import Recorder
from gradscope.store.read.recording import open_recording

EXACT_TOLERANCE = 1e-5
LAW_TOLERANCE = 0.05
N_ERRORS = 3
"""Standard errors that a deviation from the law may have beyond its tolerance."""
COSINE_TOLERANCE = 1e-3
BETAS, EPS = (0.9, 0.999), 1e-8
Moments = dict[str, tuple[NDArray[np.float64] | float, NDArray[np.float64] | float]]
LRS = {-0.3: 1.0, -0.1: 0.3, 0.0: 0.1, 0.1: 0.05, 0.25: 0.02, 0.5: 0.005}
"""Learning rates that move weights by about a hundredth at each alpha, so that float32 resolves."""


def exact_error(alpha: float, *, n_steps: int = 20, seed: int = 0) -> float:
    """Train a small net and compare recorded update norms with recomputed ones.

    Parameters
    ----------
    alpha : float
        One of ``LRS``.
    n_steps : int, default 20
    seed : int, default 0

    Returns
    -------
    float
        Largest relative difference over steps and parameters.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(64, 20, generator=generator)
    labels = torch.randint(0, 5, (64,), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 5)
        )
    optimizer = SMES(model.parameters(), lr=LRS[alpha], alpha=alpha, betas=BETAS, eps=EPS)
    moments: Moments = {name: (0.0, 0.0) for name, _ in model.named_parameters()}
    expected: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.h5"
        with Recorder(model, optimizer, path, every=1, record=("gradients", "updates")):
            for step in range(1, n_steps + 1):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images), labels).backward()
                expected.append(_recompute(model, moments, step, alpha))
                optimizer.step()
        with open_recording(path) as tree:
            norms = tree["updates/update_norm"].to_pandas()
    ratios = [norms[name].to_numpy() / [row[name] for row in expected] for name in moments]
    return float(np.abs(np.stack(ratios) - 1).max())


def _recompute(
    model: nn.Module,
    moments: Moments,
    step: int,
    alpha: float,
) -> dict[str, float]:
    """Norm of each parameter's next update, in NumPy and float64; advances the moments."""
    norms = {}
    for name, param in model.named_parameters():
        assert param.grad is not None
        g = param.grad.double().numpy()
        m = BETAS[0] * moments[name][0] + (1 - BETAS[0]) * g
        v = BETAS[1] * moments[name][1] + (1 - BETAS[1]) * g**2
        moments[name] = (m, v)
        m_hat, v_hat = m / (1 - BETAS[0] ** step), v / (1 - BETAS[1] ** step)
        norms[name] = float(np.linalg.norm(LRS[alpha] * m_hat / (v_hat**alpha + EPS)))
    return norms


def law_deviation(tree: xr.DataTree) -> xr.Dataset:
    """Hold every recorded update against the histogram law.

    Parameters
    ----------
    tree : DataTree
        A recording of SMES with scope ``element``, no graft and no weight decay.

    Returns
    -------
    Dataset, dims (step, param)
        ``deviation``, ln of recorded over predicted RMS update, and ``error``, its standard error
        if entries were independent and normal: sqrt(sum (w / sum w - v / sum v)^2 / 2), with
        w = v^(1 - 2 alpha). Entries of one tensor are correlated, so it is a lower bound. Weights
        only, at the steps that have histograms.
    """
    training, updates, histograms = (
        tree.children[name].to_dataset(inherit=False)
        for name in ("training", "updates", "histograms")
    )
    alpha = float(training["alpha"].values[-1, 0])
    shadow = shadow_alpha(tree, [alpha])["shadow_update_rms"].isel(alpha=0, drop=True)
    weights = np.flatnonzero(shadow["kind"].values == "weight")
    predicted = shadow.isel(param=weights)
    measured = updates["update_rms"].sel(step=predicted["step"]).isel(param=weights)
    counts = histograms["exp_avg_sq_histogram"].isel(param=weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.log(measured / predicted)
    return xr.Dataset({"deviation": deviation, "error": _sampling_error(counts, alpha)})


def _sampling_error(counts: xr.DataArray, alpha: float) -> xr.DataArray:
    octave = counts["moment_bin"] + 0.5
    counts = counts.astype(np.float64)
    # Shares are taken relative to the largest v, so that no power leaves the range of a float.
    top = octave.where(counts > 0).max("moment_bin")
    v, w = 2.0 ** (octave - top), 2.0 ** ((1 - 2 * alpha) * (octave - top))
    shares = w / (counts * w).sum("moment_bin") - v / (counts * v).sum("moment_bin")
    return (counts * shares**2).sum("moment_bin") ** 0.5 / 2**0.5


def law_excess(tree: xr.DataTree) -> float:
    """Return by how much the law is missed beyond ``N_ERRORS`` standard errors, in nat.

    Returns
    -------
    float
        Median over steps and weights of abs(deviation) - ``N_ERRORS`` error; the law holds if it
        stays below 0.05.
    """
    found = law_deviation(tree)
    excess = abs(found["deviation"]) - N_ERRORS * found["error"]
    return float(excess.where(np.isfinite(excess)).median())


def largest_cosine(tree: xr.DataTree) -> float:
    """Return the largest |cosine| of gradient and weight before batch norm at the first step."""
    gradients = tree.children["gradients"].to_dataset(inherit=False).isel(step=0)
    kinds, types = gradients["kind"].values, gradients["layer_type"].values.astype(str)
    is_norm = (kinds == "norm_weight") & (np.char.find(types, "BatchNorm") >= 0)
    normed = np.isin(gradients["depth"].values, gradients["depth"].values[is_norm])
    cosines = np.abs(gradients["grad_param_cosine"].values[normed & (kinds == "weight")])
    return float(cosines.max()) if cosines.size else float("nan")


def exact_errors(alphas: Iterable[float] = tuple(LRS)) -> dict[float, float]:
    """Return `exact_error` at each alpha."""
    return {alpha: exact_error(alpha) for alpha in alphas}

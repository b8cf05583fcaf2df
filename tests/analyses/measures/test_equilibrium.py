"""The equilibrium on a toy that has no data: scale-invariant weights with random gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from analyses.measures.equilibrium import DRIFT_ALLOWED, equilibrium
from gradscope.errors import RecordingError
from gradscope.optim.update import smes_update
from tests.helpers import synthetic_recording

SIZES = (100, 200, 400, 800, 1600)
SCALES = (0.05, 0.4, 0.1, 0.8, 0.2)
"""Norm of the gradient where the weight has norm 1; it falls as 1 / norm."""
BETA2 = 0.99


def walk(alpha: float, beta1: float, *, is_decoupled: bool, lr: float, decay: float, n_steps=600):
    """Random gradients orthogonal to the weights, as batch norm makes them; returns a recording."""
    generator = torch.Generator().manual_seed(1)
    rows: dict[str, list] = {
        name: [] for name in ("ratio", "grad_rms", "log_mean", "log_var", "norm")
    }
    theta = [torch.randn(n, generator=generator, dtype=torch.float64) / n**0.5 for n in SIZES]
    m, v = ([torch.zeros_like(w) for w in theta] for _ in range(2))
    for step in range(1, n_steps + 1):
        row: dict[str, list[float]] = {name: [] for name in rows}
        for i, (scale, w) in enumerate(zip(SCALES, theta, strict=True)):
            noise = torch.randn(len(w), generator=generator, dtype=torch.float64)
            noise -= w * (noise @ w) / (w @ w)
            g = noise * scale / (len(w) ** 0.5 * w.norm())
            new, m[i], v[i] = smes_update(
                w,
                g,
                exp_avg=m[i],
                exp_avg_sq=v[i],
                step=step,
                lr=lr,
                betas=(beta1, BETA2),
                alpha=alpha,
                weight_decay=decay,
                decoupled_weight_decay=is_decoupled,
            )
            row["ratio"].append(float((new - w).norm() / w.norm()))
            row["norm"].append(float(w.norm()))
            row["grad_rms"].append(float(g.square().mean().sqrt()))
            row["log_mean"].append(float(v[i].log().mean()))
            row["log_var"].append(float(v[i].log().var(correction=0)))
            theta[i] = new
        for name, values in row.items():
            rows[name].append(values)
    return recording(rows, n_steps, alpha=alpha, beta1=beta1, lr=lr, decay=decay)


def recording(rows, n_steps, *, alpha, beta1, lr, decay) -> xr.DataTree:
    """Name the rows as a recording does: a weight and its batch norm at every depth."""
    names = [f"{i}.{kind}" for i in range(len(SIZES)) for kind in ("conv", "norm")]
    along = {
        "param": names,
        "layer": ("param", names),
        "depth": ("param", [i // 2 for i in range(len(names))]),
        "kind": ("param", ["weight", "norm_weight"] * len(SIZES)),
        "layer_type": ("param", ["Conv2d", "BatchNorm2d"] * len(SIZES)),
        "step": np.arange(1, n_steps + 1),
    }

    # Columns of the norms hold what must not be looked at.
    signs = np.tile([1.0, -1.0], len(SIZES))

    def spread(values):
        return ("step", "param"), np.repeat(np.asarray(values), 2, axis=1) * signs

    def group(**variables):
        return xr.Dataset({n: spread(x) for n, x in variables.items()}, coords=along)

    state_step = np.tile(np.arange(1, n_steps + 1)[:, None], (1, len(SIZES)))
    options = {"lr": lr, "alpha": alpha, "beta1": beta1, "beta2": BETA2, "weight_decay": decay}
    training = {n: (("step", "param_group"), np.full((n_steps, 1), x)) for n, x in options.items()}
    return xr.DataTree.from_dict(
        {
            "/training": xr.Dataset(training, coords={"step": along["step"]}),
            "/gradients": group(grad_rms=rows["grad_rms"]),
            "/updates": group(update_ratio=rows["ratio"], param_norm=rows["norm"]),
            "/second_moments": group(
                state_step=state_step,
                log_exp_avg_sq_mean=rows["log_mean"],
                log_exp_avg_sq_var=rows["log_var"],
            ),
        }
    )


@pytest.mark.parametrize(("alpha", "beta1"), [(-0.2, 0.9), (0.0, 0.0), (0.25, 0.0), (0.25, 0.9)])
@pytest.mark.parametrize("is_decoupled", [True, False], ids=["decoupled", "coupled"])
def test_level_and_slope_of_a_random_walk(alpha, beta1, is_decoupled):
    # v is near 1e-4; the rates below shrink squared norms by about 1 % a step.
    lr = 0.3 * 1e-4**alpha
    decay = 0.005 / lr if is_decoupled else 0.005 / 0.3
    found = equilibrium(
        walk(alpha, beta1, is_decoupled=is_decoupled, lr=lr, decay=decay),
        is_decoupled=is_decoupled,
    )
    assert found.age > 3
    assert found.predicted == (0.0 if is_decoupled else -alpha)
    assert found.deviation == pytest.approx(0.0, abs=0.03)
    level = np.log(found.layers["update_ratio"] / found.layers["level"])
    # Decay itself is part of the update: 5e-3 beside a ratio of 0.1 (beta1 0) or 0.023 (0.9).
    assert float(level.mean()) == pytest.approx(0.0, abs=0.08)
    assert found.spread > 0.3
    assert abs(found.drift) < DRIFT_ALLOWED


def test_an_alpha_that_did_not_act_is_told_apart():
    """The rival worlds differ by alpha: decoupled runs read as coupled miss the prediction."""
    tree = walk(0.25, 0.0, is_decoupled=True, lr=0.03, decay=0.17)
    assert equilibrium(tree, is_decoupled=False).deviation == pytest.approx(0.25, abs=0.03)


def test_a_young_run_says_so():
    tree = walk(0.0, 0.0, is_decoupled=True, lr=0.3, decay=0.005 / 0.3, n_steps=100)
    assert equilibrium(tree, is_decoupled=True).age == pytest.approx(0.01 * 99, rel=1e-9)


def test_norms_that_decay_without_steps_are_no_equilibrium():
    """Gradients a thousand times smaller: at age 5 weights are still on their way down."""
    tree = walk(0.0, 0.0, is_decoupled=True, lr=0.3e-6, decay=0.005 / 0.3e-6)
    found = equilibrium(tree, is_decoupled=True)
    assert found.age > 3
    assert found.drift == pytest.approx(-1.0, abs=0.01)


def test_what_cannot_be_in_balance_is_refused():
    tree = walk(0.0, 0.0, is_decoupled=True, lr=0.3, decay=0.0, n_steps=5)
    with pytest.raises(RecordingError, match="needs weight decay; this run had none"):
        equilibrium(tree, is_decoupled=True)
    small = synthetic_recording(n_steps=3, n_layers=3)
    with pytest.raises(RecordingError, match="three weights before batch norm; this net has 2"):
        equilibrium(small, is_decoupled=True)

"""What is not finite is missing, never zero: hand-computed values of updates and norms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.record.finalize.variables import finish_updates
from gradscope.record.measure.reference.sums import PARAM_SUMS

WEIGHT = [[3.0, 4.0], [0.0, 0.0]]
OF_UPDATES = ("update_norm", "update_grad_cosine", "update_param_cosine", "descent")


def one_step(path, make, *, grad, weight=WEIGHT, other=1.0):
    """Record one step with a given gradient of a weight; returns its row of ``/updates``."""
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(1, 1, bias=False)})
    with torch.no_grad():
        model["a"].weight.copy_(torch.tensor(weight))
        model["b"].weight.fill_(2.0)
    optimizer = make(model.parameters())
    with gradscope.Recorder(model, optimizer, path):
        model["a"].weight.grad = torch.tensor(grad)
        model["b"].weight.grad = torch.full((1, 1), other)
        optimizer.step()
    tree = gradscope.open_recording(path).load()
    rows = {}
    for group in ("gradients", "updates"):
        rows |= {n: float(v[0, 0]) for n, v in tree[group].data_vars.items() if v.ndim == 2}
    assert float(tree["updates/update_norm"].sel(param="b.weight")[0]) == pytest.approx(
        0.1 if other == 1.0 and "lr" not in str(path) else np.nan, rel=1e-6, nan_ok=True
    )
    return rows


def sgd(params):
    return torch.optim.SGD(params, lr=0.1)


def smes(params):
    return gradscope.SMES(params, lr=0.1, alpha=0.0, betas=(0.0, 0.9))


@pytest.mark.parametrize("make", [sgd, smes])
def test_a_gradient_without_finite_entries(tmp_path, make):
    row = one_step(tmp_path / "run.h5", make, grad=[[math.nan] * 2, [math.inf] * 2])
    assert all(math.isnan(row[name]) for name in OF_UPDATES)
    assert math.isnan(row["grad_norm"]) and row["grad_nonfinite"] == 4
    assert row["param_norm"] == 5.0


@pytest.mark.parametrize("make", [sgd, smes])
def test_statistics_are_over_finite_entries(tmp_path, make):
    row = one_step(tmp_path / "run.h5", make, grad=[[3.0, math.inf], [math.nan, 4.0]])
    # u = -0.1 g where finite: (-0.3, ., ., -0.4)
    assert row["grad_norm"] == 5.0 and row["grad_nonfinite"] == 2
    assert row["update_norm"] == pytest.approx(0.5, rel=1e-6)
    assert row["update_grad_cosine"] == pytest.approx(-1.0, rel=1e-6)
    assert row["descent"] == pytest.approx(0.1 * 25, rel=1e-6)
    assert row["update_param_cosine"] == pytest.approx(-0.3 * 3 / (0.5 * 5), rel=1e-6)


@pytest.mark.parametrize("lr", [math.inf, math.nan])
def test_an_update_without_finite_entries_of_a_finite_gradient(tmp_path, lr):
    def make(params):
        optimizer = torch.optim.SGD(params, lr=0.1)
        optimizer.param_groups[0]["lr"] = lr
        return optimizer

    row = one_step(tmp_path / "lr.h5", make, grad=[[1.0, 2.0], [2.0, 4.0]])
    assert all(math.isnan(row[name]) for name in OF_UPDATES)
    assert row["grad_norm"] == 5.0 and row["param_norm"] == 5.0


def test_a_true_zero_stays_zero(tmp_path):
    row = one_step(tmp_path / "run.h5", sgd, grad=[[0.0] * 2] * 2)
    assert row["update_norm"] == 0.0 and row["descent"] == 0.0 and row["param_norm"] == 5.0
    assert math.isnan(row["update_grad_cosine"])  # 0 / 0


def test_a_parameter_without_finite_entries(tmp_path):
    row = one_step(
        tmp_path / "run.h5", sgd, grad=[[3.0, 4.0], [0.0, 0.0]], weight=[[math.nan] * 2] * 2
    )
    assert row["grad_norm"] == 5.0
    missing = (*OF_UPDATES, "param_norm", "grad_param_cosine")
    assert all(math.isnan(row[name]) for name in missing)


def test_a_skipped_step_has_no_update_and_no_parameter():
    raw = np.full((1, 1, len(PARAM_SUMS)), np.nan)
    raw[..., PARAM_SUMS.index("param_square_sum")] = 25.0
    assert all(np.isnan(v).all() for v in finish_updates(raw, np.array([4])).values())

"""Moments and hyper-parameters of each family, against formulas written down here."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.record.model.optimizers.groups import adapter_of, read_groups

NAN = math.nan


def record(tmp_path, make, n_steps=3, **options):
    """Train a linear layer; returns the recording, the gradients, and the optimizer."""
    torch.manual_seed(0)
    model = nn.Linear(5, 3, bias=False)
    optimizer = make(model.parameters())
    grads = []
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", **options):
        for _ in range(n_steps):
            optimizer.zero_grad()
            model(torch.randn(7, 5)).square().mean().backward()
            grads.append(model.weight.grad.double().clone())
            optimizer.step()
    return gradscope.open_recording(tmp_path / "run.h5").load(), grads, optimizer


# What torch's documentation calls each number: lr, alpha, beta1, beta2, eps, weight decay.
TORCH = [
    (lambda p: torch.optim.SGD(p, 0.1, momentum=0.8), (0.1, 0, 0.8, NAN, NAN, 0)),
    (lambda p: torch.optim.ASGD(p, 0.1, alpha=0.75), (0.1, 0, NAN, NAN, NAN, 0)),
    (lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.9), 1e-5), (0.1, 0.5, 0.8, 0.9, 1e-5, 0)),
    (lambda p: torch.optim.AdamW(p, 0.1), (0.1, 0.5, 0.9, 0.999, 1e-8, 0.01)),
    (lambda p: torch.optim.NAdam(p, 0.1), (0.1, 0.5, 0.9, 0.999, 1e-8, 0)),
    (lambda p: torch.optim.RAdam(p, 0.1), (0.1, 0.5, 0.9, 0.999, 1e-8, 0)),
    (lambda p: torch.optim.Adamax(p, 0.1), (0.1, NAN, 0.9, NAN, 1e-8, 0)),
    (lambda p: torch.optim.Adagrad(p, 0.1), (0.1, 0.5, NAN, NAN, 1e-10, 0)),
    (lambda p: torch.optim.Adadelta(p, 0.1, rho=0.7), (0.1, 0.5, NAN, 0.7, 1e-6, 0)),
    (lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.7), (0.1, 0.5, 0, 0.7, 1e-8, 0)),
    (lambda p: torch.optim.Adafactor(p, 0.1), (0.1, 0.5, NAN, NAN, NAN, 0)),
    (lambda p: torch.optim.Rprop(p, 0.1), (0.1, NAN, NAN, NAN, NAN, NAN)),
    (lambda p: torch.optim.Muon(p, 0.1), (0.1, NAN, 0.95, NAN, 1e-7, 0.1)),
    (lambda p: gradscope.SMES(p, 0.1, alpha=0.3), (0.1, 0.3, 0.9, 0.999, 1e-8, 0)),
]


@pytest.mark.parametrize(("make", "expected"), TORCH)
def test_hyperparameters_are_those_of_the_class(make, expected):
    optimizer = make([nn.Parameter(torch.ones(2, 2))])
    values, _ = read_groups([optimizer], None)
    found = [column[0] for column in values.values()]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("decays", "key", "make"),
    [
        ((0.8, 0.9), "exp_avg_sq", lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.9), 0.02)),
        ((0.8, 0.9), "exp_avg_sq", lambda p: gradscope.SMES(p, 0.01, (0.8, 0.9), 0.02, alpha=0.5)),
        ((None, 0.7), "square_avg", lambda p: torch.optim.RMSprop(p, 0.01, 0.7, 0.02)),
        ((None, 0.7), "square_avg", lambda p: torch.optim.Adadelta(p, 0.01, 0.7, 0.02)),
        ((None, 1.0), "sum", lambda p: torch.optim.Adagrad(p, 0.01, eps=0.02)),
    ],
)
def test_bias_correction_is_that_of_the_family(tmp_path, decays, key, make):
    tree, grads, _ = record(tmp_path, make)
    beta1, beta2 = decays
    v = torch.zeros_like(grads[0])
    m = torch.zeros_like(grads[0])
    for k, (g, row) in enumerate(zip(grads, tree["second_moments"]["step"].values, strict=True), 1):
        moments = tree["second_moments"].sel(param="weight", step=row)
        v = v + g**2 if key == "sum" else beta2 * v + (1 - beta2) * g**2
        v_hat = v / (1 - beta2**k) if key == "exp_avg_sq" else v
        assert float(moments["exp_avg_sq_mean"]) == pytest.approx(float(v.mean()), rel=1e-5)
        share = (0.1 * v_hat.sqrt() <= 0.02).double().mean()  # eps is 0.02 in each
        assert float(moments["epsilon_fraction"]) == pytest.approx(float(share))
        if beta1 is None:
            assert np.isnan(moments["signal_fraction"])
            continue
        m = beta1 * m + (1 - beta1) * g
        signal = ((m / (1 - beta1**k)) ** 2).sum() / v_hat.sum()
        assert float(moments["signal_fraction"]) == pytest.approx(float(signal), rel=1e-5)


def test_momentum_of_rmsprop_is_no_average_of_gradients(tmp_path):
    tree, grads, _ = record(
        tmp_path, lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.7, momentum=0.9, centered=True)
    )
    m = torch.zeros_like(grads[0])
    for g, found in zip(grads, tree["second_moments/exp_avg_norm"].values[:, 0], strict=True):
        m = 0.7 * m + 0.3 * g  # centered: the average gradient decays like the second moment
        assert float(found) == pytest.approx(float(m.norm()), rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"betas": [0.8, 0.9], "eps": None},
        {"betas": (torch.tensor(0.8), torch.tensor(0.9)), "eps": (1e-30, 1e-3)},
        {"betas": None, "eps": "small"},
        {"betas": (0.8, 0.9, 0.99), "weight_decay": [0.1, 0.2]},
        {"betas": 0.9, "lr": torch.tensor([0.1, 0.2])},
    ],
)
def test_values_of_any_kind_are_read_or_missing(tmp_path, options):
    class Strange(torch.optim.AdamW):
        def __init__(self, params):
            super().__init__(params, lr=0.01)
            self.stored = {**self.param_groups[0]}

        def step(self, closure=None):  # an own formula on an own kind of group
            for group in self.param_groups:
                for p in group["params"]:
                    p.data.add_(p.grad, alpha=-0.01)

    def make(params):
        optimizer = Strange(params)
        optimizer.param_groups[0].update(options)
        return optimizer

    tree, grads, _ = record(tmp_path, make)
    norms = [float(g.norm()) for g in grads]
    np.testing.assert_allclose(tree["gradients/grad_norm"].values[:, 0], norms, rtol=1e-6)
    training = tree["training"].isel(step=0, param_group=0)
    is_pair = isinstance(options.get("betas"), list | tuple) and len(options["betas"]) == 2
    assert np.isnan(training["beta2"]) != is_pair
    if is_pair:
        assert float(training["beta1"]) == pytest.approx(0.8)
    assert float(training["eps"]) == 1e-8 or ("eps" in options and np.isnan(training["eps"]))


def test_an_unknown_class_has_raw_moments_and_nothing_that_needs_a_formula(tmp_path):
    class Novel(torch.optim.Optimizer):
        """Keys that other classes use for something else."""

        def __init__(self, params):
            super().__init__(params, {"lr": 0.1, "alpha": 7.0, "rho": 0.05, "momentum": 0.5})

        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                state = self.state[p]
                state["exp_avg_sq"] = p.grad.square()
                state["step"] = state.get("step", 0) + 1
                p.add_(p.grad, alpha=-0.1)

    tree, grads, _ = record(tmp_path, Novel)
    training, moments = tree["training"], tree["second_moments"].isel(param=0)
    for name in ("alpha", "beta1", "beta2", "eps"):
        assert np.isnan(training[name]).all(), name
    squares = [float((g**2).mean()) for g in grads]
    np.testing.assert_allclose(moments["exp_avg_sq_mean"], squares, rtol=1e-5)
    for name in ("exp_avg_sq_hat_mean", "signal_fraction", "epsilon_fraction"):
        assert np.isnan(moments[name]).all(), name


def test_a_beta_of_an_unknown_class_corrects_no_moment(tmp_path):
    """As ADOPT: the second moment begins as the first squared gradient, not as nothing."""

    class Starts(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.01, "betas": (0.9, 0.99)})

        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                state["exp_avg_sq"] = state.get("exp_avg_sq", p.grad**2).lerp(p.grad**2, 0.01)

    tree, grads, _ = record(tmp_path, Starts)
    first = tree["second_moments"].isel(param=0, step=0)
    assert float(first["exp_avg_sq_mean"]) == pytest.approx(float((grads[0] ** 2).mean()), rel=1e-5)
    assert np.isnan(tree["second_moments/exp_avg_sq_hat_mean"]).all()
    assert np.isnan(tree["training/beta2"]).all()


def test_an_own_second_moment_stands_in_only_where_there_is_none(tmp_path):
    tree, grads, _ = record(tmp_path, lambda p: torch.optim.Adagrad(p, 0.01), second_moment="own")
    total = sum(g**2 for g in grads)
    found = tree["second_moments/exp_avg_sq_mean"].values[-1, 0]
    assert float(found) == pytest.approx(float(total.mean()), rel=1e-5)
    assert np.isnan(tree["training/beta2"]).all()  # a sum has no decay


def test_schedule_free_and_timm_classes_are_known():
    schedulefree = pytest.importorskip("schedulefree", reason="schedulefree is not installed")
    p = [nn.Parameter(torch.ones(2, 2))]
    optimizer = schedulefree.AdamWScheduleFree(p, lr=0.1, betas=(0.9, 0.98))
    values, facts = read_groups([optimizer], None)
    assert values["beta2"] == [0.98] and values["alpha"] == [0.5] and facts["bias_beta2"] == [0.98]
    assert math.isnan(values["beta1"][0])  # it interpolates; no average decays by it
    optimizer.train()
    p[0].grad = torch.ones(2, 2)
    optimizer.step()
    moments = adapter_of(optimizer).moments(
        optimizer.state[p[0]], optimizer.param_groups[0], p[0].shape
    )
    assert moments.step == 1 and moments.exp_avg_sq is not None

"""Models and programs that do with torch's freedoms what few do, each by an independent number."""

from __future__ import annotations

import dataclasses
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscope
from gradscope.record.hooks.batch_size import FIRST_AXIS
from tests.record.loops.training_loops import assert_norms, data, mlp, norms, run


@dataclasses.dataclass(slots=True)
class WithSlots:
    logits: torch.Tensor


class AnyName:
    """Answers a name that it lacks with an error of its own."""

    def __init__(self, logits):
        self.__dict__["logits"] = logits

    def __getattr__(self, name):
        return self.__dict__[name]


def a_loop(logits):
    held = [logits]
    held.insert(0, held)
    return held


class Returns(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.net, self.make = mlp(), make

    def forward(self, x):
        return self.make(self.net(x))


@pytest.mark.parametrize(
    ("make", "logits", "n"),
    [(WithSlots, "logits", 16), (AnyName, "logits", math.nan), (a_loop, 1, 16)],
)
def test_outputs_of_any_class(tmp_path, make, logits, n):
    model, (x, y) = Returns(make), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []

    def step(k, recorder):
        optimizer.zero_grad()
        out = model(x)
        out = out[logits] if isinstance(out, list) else getattr(out, logits)
        cross_entropy(out, y).backward()
        expected.append(float(out.detach().double().square().mean().sqrt()))
        optimizer.step()

    training = (tree := run(model, optimizer, tmp_path, step))["training"]
    found = tree["activations/output_rms"].sel(layer="net.2")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (training["batch_size"].values == n).all() if n == n else "batch_size" not in training


@pytest.mark.parametrize(
    ("make", "pick"),
    [
        (lambda out: (torch.ones(16, 1), out), lambda made: made[1]),
        (lambda out: {"unused": out.exp(), "used": [out.detach(), out]}, lambda m: m["used"][1]),
    ],
)
def test_a_gradient_that_comes_back_through_any_of_the_outputs(tmp_path, make, pick):
    """In steps without statistics too, where only the outputs of the whole are watched."""
    model, (x, y) = Returns(make), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(pick(model(x)), y).backward()
        optimizer.step()

    training = run(model, optimizer, tmp_path, step, every=2)["training"]
    assert training["n_microbatches"].values.tolist() == [1, 1, 1]
    assert training["batch_size"].values.tolist() == [16, 16, 16]


class GivesGroups(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return self.net(x)

    def parameters(self, recurse=True):
        return [{"params": list(self.net.parameters()), "lr": 0.1}]


def test_parameters_that_are_groups_of_an_optimizer(tmp_path):
    model, (x, y) = GivesGroups(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    true = {}

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        true[k] = norms(model)
        optimizer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = run(model, optimizer, tmp_path, step)
    for k in true:
        assert_norms(tree, true[k], k)


def test_outputs_are_saved_without_a_word_of_our_hooks(tmp_path):
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(k, recorder):
        out = model(x)
        pickle.dumps(out)
        cross_entropy(out, y).backward()
        optimizer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(model, optimizer, tmp_path, step)


@pytest.mark.parametrize("is_paused", [True, False])
def test_many_backward_calls_without_a_recorded_step_need_no_advice(tmp_path, is_paused):
    """Steps while recording is paused; gradients that are only looked at, as for Fisher's matrix"""
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(n_steps=1):
        for _ in range(n_steps):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()

    def step(k, recorder):
        if is_paused:
            recorder.pause()
            train(120)
            recorder.unpause()
        train()
        for _ in range(0 if is_paused else 120):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = run(model, optimizer, tmp_path, step, n_steps=2)
    assert tree["training/n_microbatches"].values.tolist() == [1, 1]


class Implicit(nn.Module):
    """A layer defined by z = tanh(W z + x); backward solves for the gradient with many products."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.Linear(6, 6), nn.Linear(6, 4)
        self.arrived = []

    def step(self, z, x):
        return torch.tanh(0.3 * self.cell(z) + x)

    def forward(self, x):
        with torch.no_grad():
            z = self.step(self.step(torch.zeros_like(x), x), x)
        again = z.clone().requires_grad_()
        inner = self.step(again, x)
        z = self.step(z, x)
        z.register_hook(lambda g: self.solve(g, inner, again))
        return self.head(z)

    def solve(self, grad, inner, again):
        found = grad
        for _ in range(5):
            found = grad + torch.autograd.grad(inner, again, found, retain_graph=True)[0]
        self.arrived.append(0.3 * found * (1 - inner.detach() ** 2))  # at the output of the cell
        return found


def test_products_of_a_solver_within_backward_are_no_gradient_of_the_loss(tmp_path):
    torch.manual_seed(0)
    model, (x, y) = Implicit(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    found = tree["activations/output_grad_rms"].sel(layer="cell")
    expected = [float(g.double().square().mean().sqrt()) for g in model.arrived]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert tree["training/n_microbatches"].values.tolist() == [1, 1, 1]


def test_lazy_parameters_made_within_a_closure(tmp_path):
    """Nobody knows the weights before the first step; from the second on, all is there."""
    model, (x, y) = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(4)), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    true, before = {}, []

    def step(k, recorder):
        def closure():
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            return loss

        if k > 1:
            before.append(float(model[0].weight.detach().double().norm()))
        optimizer.step(closure)
        true[k] = norms(model)

    tree = run(model, optimizer, tmp_path, step)
    for k in true:
        assert_norms(tree, true[k], k)
    found = tree["updates/param_norm"].sel(param="0.weight").values
    np.testing.assert_allclose(found, [math.nan, *before], rtol=1e-6)
    assert np.isnan(tree["updates/update_norm"].values[0]).all()


class TrainsItself(nn.Module):
    """Adapts its body within each call, then goes on with the head."""

    optimizer: torch.optim.Optimizer

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        self.optimizer.zero_grad()
        (self.body(x) - x).square().mean().backward()
        self.optimizer.step()
        return self.head(self.body(x).detach())


def test_a_step_within_a_forward_pass(tmp_path):
    model, (x, y) = TrainsItself(), data()
    model.optimizer = optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    true = []

    def step(k, recorder):
        out = model(x)
        true.append(norms(model))
        optimizer.zero_grad()
        cross_entropy(out, y).backward()
        true.append(norms(model))
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, n_steps=2)
    assert tree.attrs["status"] == "finished"
    for k, expected in enumerate(true, 1):
        assert_norms(tree, expected, k)
    source = gradscope.open_recording(tmp_path / "run.h5")["training/batch_size"].attrs["source"]
    assert FIRST_AXIS in source

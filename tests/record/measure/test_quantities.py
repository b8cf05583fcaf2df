"""A quantity is a declaration and one function: nothing else of the recorder needs to know it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import gradscope
from gradscope import schema
from gradscope.record.measure.reference import quantities


@pytest.fixture
def declared(monkeypatch):
    """Declare ``grad_sign_balance`` beside the other gradients, for one test."""
    model = schema.GROUPS["gradients"].variables["grad_mean"]
    new = replace(model, name="grad_sign_balance", long_name="balance of signs")
    monkeypatch.setitem(schema.GROUPS["gradients"].variables, "grad_sign_balance", new)
    monkeypatch.setitem(schema.VARIABLES, "grad_sign_balance", ("gradients", new))
    monkeypatch.setattr(quantities, "QUANTITIES", {})

    @quantities.quantity
    def grad_sign_balance(param, grad, state):
        return grad.sign().double().mean()


def train(path, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    true = []
    with gradscope.Recorder(model, optimizer, path, **options):
        for _ in range(4):
            model(torch.randn(5, 4)).square().sum().backward()
            true.append([float(np.sign(p.grad.numpy()).mean()) for p in model.parameters()])
            optimizer.step()
            optimizer.zero_grad()
    return gradscope.open_recording(path).load(), true


def test_a_declared_function_is_recorded_with_its_group(tmp_path, declared):
    tree, true = train(tmp_path / "run.h5", record="light")
    np.testing.assert_allclose(tree["gradients/grad_sign_balance"].values, true, rtol=1e-6)
    assert np.isfinite(tree["gradients/grad_norm"].values).all()


def test_beside_a_measure_of_the_users_own(tmp_path, declared):
    tree, true = train(
        tmp_path / "run.h5", every=2, custom={"largest": lambda p, g, s: g.abs().max()}
    )
    np.testing.assert_allclose(tree["gradients/grad_sign_balance"].values, true[::2], rtol=1e-6)
    assert tree["custom"]["step"].values.tolist() == [1, 3]
    np.testing.assert_array_equal(tree["custom/largest"].values, tree["gradients/grad_abs_max"])


def test_a_function_without_a_declaration_is_refused(monkeypatch):
    monkeypatch.setattr(quantities, "QUANTITIES", {})

    def made_up(param, grad, state):
        return grad.sum()

    with pytest.raises(KeyError, match="made_up"):
        quantities.quantity(made_up)


def test_a_measure_that_raises_is_left_out_with_one_warning(tmp_path):
    def faulty(param, grad, state):
        raise ZeroDivisionError("nothing to divide by")

    with pytest.warns(RuntimeWarning, match="'faulty' failed and is no longer recorded"):
        tree, _ = train(tmp_path / "run.h5", custom={"faulty": faulty, "one": lambda p, g, s: 1.0})
    assert np.isnan(tree["custom/faulty"].values).all()
    assert (tree["custom/one"].values == 1.0).all()


@pytest.mark.parametrize("name", ["grad_norm", "step", "no name", ""])
def test_names_that_are_taken_or_no_identifiers_are_refused(tmp_path, name):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="cannot name a custom measure"):
        gradscope.Recorder(model, optimizer, tmp_path / "run.h5", custom={name: lambda p, g, s: 0})
    assert not list(tmp_path.iterdir())

"""Users' objects whose comparison, hash, truth and text are of no use: all is recorded as ever."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.record.model import identity
from tests.record.loops.training_loops import data, mlp, run


def test_examples():
    assert doctest.testmod(identity).failed == 0


def refuse(*_):
    raise AssertionError("nobody may ask")


def give_array(*_):
    return np.zeros(2, dtype=bool)


HOSTILE: dict[str, dict[str, Any]] = {
    "raises": dict.fromkeys(("__eq__", "__ne__", "__hash__", "__bool__", "__len__"), refuse),
    "unhashable": {"__eq__": give_array, "__hash__": None},
    "arrays": {"__eq__": give_array, "__ne__": give_array, "__hash__": lambda _: 7},
    "all equal": {"__eq__": lambda *_: True, "__hash__": lambda _: 7, "__len__": lambda _: 0},
}


def hostile(base, kind):
    return type(base.__name__, (base,), {**HOSTILE[kind], "__module__": __name__})


@pytest.mark.parametrize("kind", HOSTILE)
def test_optimizers(tmp_path, kind):
    """Two optimizers of a body and a head, beside a bare twin of the same training."""
    trees = []
    for make in (lambda base: base, lambda base: hostile(base, kind)):
        model = mlp()
        optimizers = {
            "body": make(torch.optim.Adam)(model[0].parameters(), lr=0.01),
            "head": make(torch.optim.SGD)(model[2].parameters(), lr=0.1, momentum=0.9),
        }
        x, y = data()

        def step(k, recorder, model=model, optimizers=optimizers, x=x, y=y):
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
            recorder.log(loss=loss)

        trees.append(run(model, optimizers, tmp_path / str(len(trees)), step, 4))
    plain, odd = trees
    for group in ("training", "gradients", "updates", "second_moments", "activations"):
        for name, values in plain[group].data_vars.items():
            if name not in ("wall_time", "record_time"):
                np.testing.assert_array_equal(odd[group][name].values, values.values, name)


@pytest.mark.parametrize("kind", ["arrays", "all equal"])  # torch itself hashes modules
def test_modules_that_equal_each_other_are_two(tmp_path, kind):
    torch.manual_seed(0)
    linear = hostile(nn.Linear, kind)
    container: Any = nn.Sequential
    if kind == "arrays":
        linear.__hash__ = object.__hash__
        container = hostile(nn.Sequential, kind)
        container.__hash__ = object.__hash__
    first, second = linear(6, 5), linear(5, 4)
    model = container(first, nn.Tanh(), second)
    params = [first.weight, first.bias, second.weight, second.bias]
    optimizer = torch.optim.SGD(params, lr=0.1)
    x, y = data()
    h = first(x).tanh()
    expected = [float(t.detach().square().mean().sqrt()) for t in (first(x), second(h))]
    nn.functional.cross_entropy(second(h), y).backward()
    grads = [float(p.grad.norm()) for p in params]
    optimizer.zero_grad()

    def step(k, recorder):
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, 1)
    rms = tree["activations/output_rms"].sel(step=1, layer=["0", "2"]).values
    np.testing.assert_allclose(rms, expected, rtol=1e-6)
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    norms = tree["gradients/grad_norm"].sel(step=1, param=names).values
    np.testing.assert_allclose(norms, grads, rtol=1e-6)


class Odd:
    """A number, a setting, an entry of a parameter group."""

    __eq__ = __ne__ = __hash__ = __bool__ = __len__ = __str__ = __repr__ = refuse

    def __float__(self):
        return 0.25


def test_values(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.param_groups[0] |= {"note": Odd(), "bias_correction": Odd(), "weight_decay": 0}
    x, y = data()

    def step(k, recorder):
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        recorder.log(loss=Odd(), val_loss=Odd())

    tree = run(model, optimizer, tmp_path, step, 2, config={"callback": Odd(), "lr": 0.1})
    assert tree["training/loss"].values.tolist() == [0.25, 0.25]
    assert tree.attrs["config_json"] == '{"callback": "<Odd>", "lr": 0.1}'
    assert np.isnan(tree["second_moments/epsilon_fraction"].values).all()  # not known any more
    assert np.isfinite(tree["second_moments/exp_avg_sq_mean"].values).all()

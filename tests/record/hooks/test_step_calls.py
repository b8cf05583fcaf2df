"""Steps that call those of a parent class, raise, or take something else than a closure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradscope.optim.smes import SMES
from tests.record.loops.training_loops import assert_norms, mlp, norms, run


def decaying(base):
    """A class that centres gradients before the step of its parent, and shrinks weights after."""

    class Decaying(base):  # type: ignore[misc, valid-type]
        @torch.no_grad()
        def step(self, closure=None):
            params = [p for group in self.param_groups for p in group["params"]]
            for p in params:
                p.grad.sub_(p.grad.mean())
            loss = super().step(closure)
            for p in params:
                p.mul_(0.9)
            return loss

    base([torch.zeros(1)])  # torch hooks the step of a class once it has made one
    return Decaying


@pytest.mark.parametrize("base", [torch.optim.Adam, SMES])
def test_a_step_that_calls_its_parents_is_one_step(tmp_path, base):
    model = mlp()
    optimizer = decaying(base)(model.parameters(), lr=0.01)
    grads, moved = {}, {}

    def step(k, recorder):
        optimizer.zero_grad()
        model(torch.randn(5, 6)).square().mean().backward()
        grads[k], before = norms(model), [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        moved[k] = [
            float((p.detach() - b).double().norm())
            for p, b in zip(model.parameters(), before, strict=True)
        ]

    tree = run(model, optimizer, tmp_path, step)
    assert tree["training"]["step"].values.tolist() == [1, 2, 3]
    for k in grads:
        assert_norms(tree, grads[k], k)
        names = [name for name, _ in model.named_parameters()]
        update = tree["updates/update_norm"].sel(step=k, param=names)
        np.testing.assert_allclose(update, moved[k], rtol=1e-4)


def test_a_step_that_raised_is_not_taken_for_an_outer_one(tmp_path):
    class Refusing(torch.optim.SGD):
        n = 0

        def step(self, closure=None):
            self.n += 1
            if self.n % 2:
                raise ValueError("not yet")
            return super().step(closure)

    model = mlp()
    optimizer = Refusing(model.parameters(), lr=0.1)
    grads = {}

    def step(k, recorder):
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(5, 6)).square().mean().backward()
            grads[k] = norms(model)
            try:
                optimizer.step()
            except ValueError:
                continue

    tree = run(model, optimizer, tmp_path, step)
    assert tree["training"]["step"].values.tolist() == [1, 2, 3]
    assert (tree["training/n_microbatches"] == 1).all()
    for k in grads:
        assert_norms(tree, grads[k], k)


def test_what_cannot_be_called_is_no_closure(tmp_path):
    class Scaled(torch.optim.SGD):
        @torch.no_grad()
        def step(self, factor):
            for p in self.param_groups[0]["params"]:
                p.sub_(p.grad * factor)
                p.grad.mul_(3.0)

    model = mlp()
    optimizer = Scaled(model.parameters(), lr=0.1)
    grads = {}

    def step(k, recorder):
        optimizer.zero_grad()
        model(torch.randn(5, 6)).square().mean().backward()
        grads[k] = norms(model)
        optimizer.step(0.01 * k)

    tree = run(model, optimizer, tmp_path, step)
    for k in grads:
        assert_norms(tree, grads[k], k)
        for name, value in grads[k].items():
            update = float(tree["updates/update_norm"].sel(step=k, param=name))
            assert update == pytest.approx(0.01 * k * value, rel=1e-4)

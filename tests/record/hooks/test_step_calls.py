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


@pytest.mark.parametrize("has_forward", [True, False])
def test_gradients_are_measured_after_the_hooks_of_the_user(tmp_path, has_forward):
    """The optimizer consumes what its own pre-hooks leave, whenever they were registered."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(5, 6)
    grads = {}

    def double(*_):
        model(x)  # a pass within a hook moves no hooks
        for p in model.parameters():
            p.grad.mul_(2.0)

    optimizer.register_step_pre_hook(double)

    def step(k, recorder):
        if k <= 2:
            optimizer.register_step_pre_hook(double)
        optimizer.zero_grad()
        loss = model(x).square().mean()
        if has_forward:
            loss.backward()
        else:
            for p, grad in zip(
                model.parameters(), torch.autograd.grad(loss, [*model.parameters()]), strict=True
            ):
                p.grad = grad
        grads[k] = {n: 2 ** min(k + 1, 3) * v for n, v in norms(model).items()}
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, 4)
    for k in grads:
        assert_norms(tree, grads[k], k)
    ratio = tree["updates/update_norm"] / tree["gradients/grad_norm"]
    np.testing.assert_allclose(ratio.values, 0.1, rtol=1e-4)

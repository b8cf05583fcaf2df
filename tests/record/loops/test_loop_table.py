"""Rows of the table of loops in docs/recorder.md whose values no other file compares.

The others: plain (test_twin), closure, AMP, accumulation, one norm (test_steps), a weight of
several optimizers (test_shared_params), other clipping (hooks/test_grad_clip), compiled
(hooks/test_compile_taps), parts called by themselves (hooks/test_passes), swapped contents
(test_moved_models), another parameter group (model/test_names), DDP and FSDP2 (distributed),
Lightning and transformers (integrations), EMA, Lookahead and clamping
(finalize/test_outside_changes), resume (test_resume).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.record.loops.training_loops import data, mlp, run


def rms(tensor):
    return float(tensor.detach().double().square().mean().sqrt())


class Rows:
    """What a bare loop measures of each step, by itself."""

    def __init__(self, model, lr):
        self.named, self.lr = dict(model.named_parameters()), lr
        self.grads = []

    def note(self, grads, prefix=""):
        """Note gradients that SGD consumes: its update is -lr times them."""
        names = [prefix + name for name in self.named]
        self.grads.append(dict(zip(names, (float(g.double().norm()) for g in grads), strict=True)))

    def check(self, tree, rows=None):
        steps = tree["gradients"]["step"].values if rows is None else rows
        assert len(steps) == len(self.grads)
        for step, grads in zip(steps, self.grads, strict=True):
            for name, value in grads.items():
                at = {"step": step, "param": name}
                got = float(tree["gradients/grad_norm"].sel(at))
                assert got == pytest.approx(value, rel=1e-5), (step, name)
                update = float(tree["updates/update_norm"].sel(at))
                assert update == pytest.approx(self.lr * value, rel=1e-3), (step, name)
            total = sum(value**2 for value in grads.values()) ** 0.5
            got = float(tree["training/total_grad_norm"].sel(step=step))
            assert got == pytest.approx(total, rel=1e-5)


def test_gan(tmp_path):
    """A row for each step; the gradient that the generator's loss leaves in D is not D's."""
    g, d = mlp(1), nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizers = {
        "g": torch.optim.SGD(g.parameters(), lr=0.1),
        "d": torch.optim.SGD(d.parameters(), lr=0.1),
    }
    x, _ = data()
    of_g, of_d, losses, outputs = Rows(g, 0.1), Rows(d, 0.1), [], []

    def step(k, recorder):
        fake = g(x)
        real = d(torch.ones(16, 4))
        loss = d(fake.detach()).square().mean() + (real - 1).square().mean()
        of_d.note(torch.autograd.grad(loss, [*d.parameters()], retain_graph=True), "d.")
        optimizers["d"].zero_grad()
        loss.backward()
        recorder.log(loss=loss)
        optimizers["d"].step()
        losses.append(loss.item())
        fake = g(x)
        loss = (d(fake) - 1).square().mean()
        of_g.note(torch.autograd.grad(loss, [*g.parameters()], retain_graph=True), "g.")
        outputs.append(rms(fake))
        optimizers["g"].zero_grad()
        loss.backward()
        recorder.log(loss=loss)
        optimizers["g"].step()
        losses.append(loss.item())

    tree = run({"g": g, "d": d}, optimizers, tmp_path, step, 3)
    assert tree["training/optimizer"].values.tolist() == [2, 1] * 3
    of_d.check(tree, [1, 3, 5])
    of_g.check(tree, [2, 4, 6])
    np.testing.assert_allclose(tree["training/loss"].values, losses, rtol=1e-6)
    got = tree["activations/output_rms"].sel(layer="g.2").values[1::2]
    np.testing.assert_allclose(got, outputs, rtol=1e-5)


def test_sharpness_aware_minimization(tmp_path):
    """The row holds the second pass alone, at the weights that it was made at."""
    model = mlp()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data()
    rows, losses, outputs, deltas = Rows(model, 0.1), [], [], []

    def step(k, recorder):
        base.zero_grad()
        cross_entropy(model(x), y).backward()
        kept = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            for p in model.parameters():
                p.add_(p.grad, alpha=0.5)
        base.zero_grad()
        out = model(x)
        loss = cross_entropy(out, y)
        rows.note(torch.autograd.grad(loss, [*model.parameters()], retain_graph=True))
        deltas.append(rms(torch.autograd.grad(loss, out, retain_graph=True)[0]))
        outputs.append(rms(out))
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for p, before in zip(model.parameters(), kept, strict=True):
                p.copy_(before)
        recorder.log(loss=loss)
        base.step()

    tree = run(model, base, tmp_path, step, 3)
    rows.check(tree)
    assert tree["training/n_microbatches"].values.tolist() == [1, 1, 1]
    np.testing.assert_allclose(tree["training/loss"].values, losses, rtol=1e-6)
    for name, expected in (("output_rms", outputs), ("output_grad_rms", deltas)):
        got = tree["activations"][name].sel(layer="2").values
        np.testing.assert_allclose(got, expected, rtol=1e-5, err_msg=name)


def test_gradient_penalty(tmp_path):
    """The penalty is in the gradient; the pass is the one that backward goes through."""
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data()
    rows, losses, outputs = Rows(model, 0.1), [], []

    def step(k, recorder):
        optimizer.zero_grad()
        inputs = x.clone().requires_grad_()
        out = model(inputs)
        (slope,) = torch.autograd.grad(out.sum(), inputs, create_graph=True)
        loss = cross_entropy(out, y) + (slope.norm(dim=1) - 1).square().mean()
        rows.note(torch.autograd.grad(loss, [*model.parameters()], retain_graph=True))
        outputs.append(rms(out))
        losses.append(loss.item())
        loss.backward()
        recorder.log(loss=loss)
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, 3)
    rows.check(tree)
    assert tree["training/n_microbatches"].values.tolist() == [1, 1, 1]
    assert tree["training/batch_size"].values.tolist() == [16, 16, 16]
    np.testing.assert_allclose(tree["training/loss"].values, losses, rtol=1e-6)
    got = tree["activations/output_rms"].sel(layer="2").values
    np.testing.assert_allclose(got, outputs, rtol=1e-5)


def test_optimizers_that_step_inside_backward(tmp_path):
    """Those of one backward share a row, whose norm and activations are whole."""
    model = mlp()
    optimizers = {n: torch.optim.SGD([p], lr=0.1) for n, p in model.named_parameters()}

    def on_grad(name):
        def hook(_):
            optimizers[name].step()
            optimizers[name].zero_grad()

        return hook

    for name, p in model.named_parameters():
        p.register_post_accumulate_grad_hook(on_grad(name))
    x, y = data()
    rows, losses, deltas = Rows(model, 0.1), [], []

    def step(k, recorder):
        out = model(x)
        loss = cross_entropy(out, y)
        rows.note(torch.autograd.grad(loss, [*model.parameters()], retain_graph=True))
        deltas.append(rms(torch.autograd.grad(loss, out, retain_graph=True)[0]))
        losses.append(loss.item())
        loss.backward()
        recorder.log(loss=loss)

    tree = run(model, optimizers, tmp_path, step, 3)
    rows.check(tree)
    assert tree["training/optimizer"].values.tolist() == [0, 0, 0]  # all of them
    np.testing.assert_allclose(tree["training/loss"].values, losses, rtol=1e-6)
    got = tree["activations/output_grad_rms"].sel(layer="2").values
    np.testing.assert_allclose(got, deltas, rtol=1e-5)

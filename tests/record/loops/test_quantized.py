"""Quantization-aware training, and layers with packed int8 weights beside trained ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from tests.record.loops.training_loops import assert_norms, data, mlp, norms, run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantization = pytest.importorskip("torch.ao.quantization")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def rms(tensor):
    return float(tensor.detach().double().square().mean().sqrt())


def rounded(x, fake):
    """Round to the grid of a `FakeQuantize`, as its paper (arXiv 1712.05877, eq. 12) says."""
    shape = (-1, *(1,) * (x.ndim - 1)) if fake.is_per_channel else ()
    scale, zero = fake.scale.reshape(shape), fake.zero_point.reshape(shape)
    low, high = fake.activation_post_process.quant_min, fake.activation_post_process.quant_max
    return ((x / scale).round() + zero).clamp(low, high).sub(zero).mul(scale)


def test_quantization_aware_training(tmp_path):
    """Gradients by the straight-through estimator; outputs of layers before their own hooks."""
    model = mlp()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(model.train(), inplace=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data()
    expected, seen = {}, []

    def step(k, recorder):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        fakes = [model[i].weight_fake_quant for i in (0, 2)]
        first = nn.functional.linear(x, rounded(model[0].weight, fakes[0]), model[0].bias)
        h = rounded(first, model[0].activation_post_process).relu()
        last = nn.functional.linear(h, rounded(model[2].weight, fakes[1]), model[2].bias)
        seen.append((rms(first), rms(last)))
        # straight through: where nothing was clipped, delta W = delta^T h
        out = rounded(last, model[2].activation_post_process)
        delta = (out.softmax(1) - nn.functional.one_hot(y, 4)) / len(y)
        expected[k] = norms(model)
        inside = (out - last).abs() < model[2].activation_post_process.scale
        assert float((delta * inside).t().matmul(h).norm()) == pytest.approx(
            expected[k]["2.weight"], rel=1e-4
        )
        optimizer.step()
        recorder.log(loss=loss)

    tree = run(model, optimizer, tmp_path, step)
    for k in expected:
        assert_norms(tree, expected[k], k)
    assert tree["activations"]["layer"].values.tolist() == ["0", "1", "2"]
    got = tree["activations/output_rms"].sel(layer=["0", "2"]).values
    np.testing.assert_allclose(got, seen, rtol=1e-4)
    moved = tree["updates/update_norm"] / tree["gradients/grad_norm"]
    np.testing.assert_allclose(moved.values, 0.1, rtol=1e-3)


class Mixed(nn.Module):
    """An int8 body that is not trained, beside a side path and a head that are."""

    def __init__(self):
        super().__init__()
        body = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.plain = [body[0].weight.detach().clone(), body[0].bias.detach().clone()]
        self.body = quantization.quantize_dynamic(body, {nn.Linear}, dtype=torch.qint8)
        self.side, self.head = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(x) + self.side(x))


def test_int8_layers_beside_trained_ones(tmp_path):
    torch.manual_seed(0)
    model = Mixed()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = data()
    body = rms(nn.functional.linear(x, *model.plain))
    expected, sides = {}, []

    def step(k, recorder):
        optimizer.zero_grad()
        h = model.body(x) + model.side(x)
        out = model.head(h)
        delta = (out.softmax(1) - nn.functional.one_hot(y, 4)) / len(y)
        sides.append(rms(model.side(x)))
        expected[k] = {
            "head.weight": float((delta.t() @ h).norm()),
            "head.bias": float(delta.sum(0).norm()),
            "side.weight": float((delta @ model.head.weight).t().matmul(x).norm()),
        }
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    for k in expected:
        for name, value in expected[k].items():
            got = float(tree["gradients/grad_norm"].sel(step=k, param=name))
            assert got == pytest.approx(value, rel=1e-4), name
    activations = tree["activations"]
    assert activations["layer"].values.tolist() == ["body.0", "body.1", "side", "head"]
    assert activations["depth"].values.tolist() == [0, 0, 1, 2]
    got = activations["output_rms"].sel(layer="side").values
    np.testing.assert_allclose(got, sides, rtol=1e-5)
    got = activations["output_rms"].sel(layer="body.0").values
    np.testing.assert_allclose(got, body, rtol=0.02)  # to the grid of int8
    assert np.isnan(activations["output_grad_rms"].sel(layer="body.0").values).all()
    assert (tree["training/batch_size"] == 16).all()

"""Tensors of unusual kinds in a recording, against plain autograd and arithmetic by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.record.measure import dense as module
from gradscope.record.measure.dense import dense

LR = 0.1


class Marked(torch.Tensor):
    """A subclass that changes nothing."""


def record(path, model, forward, *, optimizer=None, n_steps=2):
    """Record steps of SGD; returns the recording, and gradients, moves and weights by step."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=LR)
    true = []
    with gradscope.Recorder(model, optimizer, path):
        for _ in range(n_steps):
            optimizer.zero_grad()
            forward().backward()
            before = {n: p.detach().clone() for n, p in model.named_parameters()}
            grads = {n: p.grad.detach().clone() for n, p in model.named_parameters()}
            optimizer.step()
            moves = {n: p.detach() - before[n] for n, p in model.named_parameters()}
            true.append((grads, moves, before))
    return gradscope.open_recording(path).load(), true


def plain(tensor):
    """The entries of a tensor as a list of Python numbers, zeros of sparse ones among them."""
    tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    return tensor.as_subclass(torch.Tensor).reshape(-1).tolist()


def assert_gradient(tree, name, step, grad, move, weight):
    g, u, theta = plain(grad), plain(move), plain(weight)
    norm = math.sqrt(sum(abs(x) ** 2 for x in g))
    dot = sum((complex(a).conjugate() * b).real for a, b in zip(g, u, strict=True))
    expected = {
        "gradients/grad_norm": norm,
        "gradients/grad_abs_mean": sum(map(abs, g)) / len(g),
        "gradients/grad_abs_max": max(map(abs, g)),
        "gradients/grad_zero_fraction": sum(x == 0 for x in g) / len(g),
        "gradients/grad_kurtosis": sum(abs(x) ** 4 for x in g) * len(g) / norm**4,
        "updates/update_norm": math.sqrt(sum(abs(x) ** 2 for x in u)),
        "updates/param_norm": math.sqrt(sum(abs(x) ** 2 for x in theta)),
        "updates/descent": -dot,
    }
    for variable, value in expected.items():
        found = float(tree[variable].sel(step=step, param=name))
        assert found == pytest.approx(value, rel=1e-5), variable


class Rotation(nn.Module):
    """A complex weight, and a complex output."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2, bias=False, dtype=torch.complex64)

    def forward(self, x):
        return self.inner(x).abs().square().mean()


def test_complex_tensors_count_by_their_magnitude(tmp_path):
    torch.manual_seed(0)
    model = Rotation()
    x = torch.randn(4, 3, dtype=torch.complex64)
    out = plain(model.inner(x).detach())
    tree, true = record(tmp_path / "run.h5", model, lambda: model(x))
    for step, (grads, moves, before) in enumerate(true, 1):
        name = "inner.weight"
        assert_gradient(tree, name, step, grads[name], moves[name], before[name])
        assert np.isnan(tree["gradients/grad_mean"].sel(step=step, param=name))
        cosine = tree["updates/update_grad_cosine"].sel(step=step, param=name)
        assert float(cosine) == pytest.approx(-1, rel=1e-5)
    rms = math.sqrt(sum(abs(y) ** 2 for y in out) / len(out))
    layer = tree["activations"].sel(step=1, layer="inner")
    assert float(layer["output_rms"]) == pytest.approx(rms, rel=1e-5)
    assert np.isnan(layer["output_mean"])


def test_sparse_gradients_have_their_zeros_and_repeated_rows_add(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 3, sparse=True))
    tokens = torch.tensor([2, 5, 2, 2])  # one row comes three times: the gradient is not coalesced
    tree, true = record(tmp_path / "run.h5", model, lambda: model(tokens).square().sum())
    for step, (grads, moves, before) in enumerate(true, 1):
        assert grads["0.weight"].is_sparse
        assert_gradient(tree, "0.weight", step, *(d["0.weight"] for d in (grads, moves, before)))
    assert (tree["gradients/grad_zero_fraction"] == np.float32(5 / 7)).all()


class Odd(nn.Module):
    """A scalar, an empty parameter and one of a subclass, beside an ordinary one."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.marked = nn.Parameter(torch.ones(2).as_subclass(Marked))

    def forward(self, x):
        y = self.fc(torch.cat([x, self.empty])) * self.scale
        return (y + self.marked).as_subclass(torch.Tensor).square().mean()


def test_scalars_empty_tensors_and_subclasses(tmp_path):
    torch.manual_seed(0)
    model = Odd()
    x = torch.randn(4, 3)
    tree, true = record(tmp_path / "run.h5", model, lambda: model(x))
    for step, (grads, moves, before) in enumerate(true, 1):
        for name in ("fc.weight", "fc.bias", "scale", "marked"):
            assert_gradient(tree, name, step, grads[name], moves[name], before[name])
        for variable in ("gradients/grad_norm", "gradients/grad_mean", "updates/update_norm"):
            assert np.isnan(tree[variable].sel(step=step, param="empty")), variable


class Ragged(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, rows):
        nested = torch.nested.nested_tensor(rows, layout=torch.jagged)
        return self.fc(nested).values().square().mean()


def test_jagged_outputs_count_their_entries(tmp_path):
    torch.manual_seed(0)
    model = Ragged()
    rows = [torch.randn(n, 3) for n in (2, 5, 1)]
    out = plain(model.fc(torch.cat(rows)).detach())
    tree, _ = record(tmp_path / "run.h5", model, lambda: model(rows))
    layer = tree["activations"].sel(step=1, layer="fc")
    assert int(layer["output_numel"]) == 8 * 2
    rms = math.sqrt(sum(y * y for y in out) / len(out))
    assert float(layer["output_rms"]) == pytest.approx(rms, rel=1e-5)
    delta = [2 * y / len(out) for y in out]
    grad_rms = math.sqrt(sum(d * d for d in delta) / len(out))
    assert float(layer["output_grad_rms"]) == pytest.approx(grad_rms, rel=1e-5)


def test_quantized_tensors_are_what_they_stand_for():
    x = torch.tensor([[0.24, -1.0], [3.1, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to move quantization elsewhere
        q = torch.quantize_per_tensor(x, scale=0.5, zero_point=2, dtype=torch.qint8)
    found = dense(q)
    assert found is not None and found.tolist() == [[0.0, -1.0], [3.0, 0.0]]


class Opaque(torch.Tensor):
    """A wrapper whose numbers nobody but its author can read."""

    @staticmethod
    def __new__(cls, shape):
        return torch.Tensor._make_wrapper_subclass(cls, shape)

    def __tensor_flatten__(self):
        return [], None

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].shape)
        raise NotImplementedError


def test_what_cannot_be_read_is_missing_with_one_warning(monkeypatch):
    monkeypatch.setattr(module, "_said", set())
    with pytest.warns(RuntimeWarning, match="leaves out tensors of the kind Opaque") as caught:
        assert dense(Opaque((2, 2))) is None and dense(Opaque((3,))) is None
    assert len(caught) == 1
    assert dense(torch.empty(2, device="meta")) is None

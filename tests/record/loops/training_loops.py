"""What the tests of training loops share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradscope


def mlp(seed=0, width=12):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(inplace=True), nn.Linear(width, 4))


def data(n=16, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=g), torch.randint(0, 4, (n,), generator=g)


def run(model, optimizer, tmp_path, step, n_steps=3, **options):
    """Train ``n_steps`` with ``step(k, recorder)`` and open what was recorded."""
    path = tmp_path / "run.h5"
    with gradscope.Recorder(model, optimizer, path, **options) as recorder:
        for k in range(1, n_steps + 1):
            step(k, recorder)
    return gradscope.open_recording(path).load()


def norms(model):
    return {
        n: float(p.grad.double().norm()) for n, p in model.named_parameters() if p.grad is not None
    }


def assert_norms(tree, expected, step):
    got = tree["gradients/grad_norm"].sel(step=step)
    for name, value in expected.items():
        assert float(got.sel(param=name)) == pytest.approx(value, rel=1e-6), name

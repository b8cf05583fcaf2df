"""Gradient noise scale from micro-batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscope


def problem(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))
    return model, torch.randn(64, 20), torch.randint(0, 4, (64,))


def test_noise_scale_finds_the_planted_noise(tmp_path):
    """Gradients G + noise of known trace per example: tr(Sigma) / |G|^2 is planted."""
    torch.manual_seed(0)
    n, b, dimension = 8, 4, 400
    signal = torch.full((dimension,), 0.5)  # |G|^2 = 100
    sigma = 3.0  # tr Sigma = 9 * 400
    model = nn.Linear(dimension, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", record={"noise"}):
        for _ in range(60):
            optimizer.zero_grad()
            for _ in range(n):
                # d loss / d weight is the mean of the rows of x
                x = signal + sigma * torch.randn(b, dimension)
                (model(x).mean() / n).backward()
            optimizer.step()
    noise = gradscope.open_recording(tmp_path / "run.h5").load()["noise"].sel(param="weight")
    # E|g_b|^2 = |G|^2 + tr Sigma / b
    assert float(noise["microbatch_grad_sq"].mean()) == pytest.approx(100 + 3600 / b, rel=0.03)
    assert float(noise["noise_scale"].median()) == pytest.approx(36, rel=0.2)


def test_noise_is_missing_without_micro_batches(tmp_path):
    model, x, y = problem()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", record={"noise"}):
        cross_entropy(model(x), y).backward()
        optimizer.step()
    assert np.isnan(gradscope.open_recording(tmp_path / "run.h5")["noise/noise_scale"]).all()
    assert not model[0].weight._backward_hooks


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.always, self.once = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x, is_first):
        return self.always(x) + (self.once(x) if is_first else 0)


@pytest.mark.parametrize("set_to_none", [False, True])
def test_a_branch_that_is_not_taken_adds_nothing(tmp_path, set_to_none):
    model = Branches()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", record=["gradients", "noise"]):
        for k in range(4):
            optimizer.zero_grad(set_to_none=set_to_none)
            for _ in range(2):
                model(torch.randn(3, 4), k == 0).square().mean().backward()
            optimizer.step()
    squares = gradscope.open_recording(tmp_path / "run.h5")["noise/microbatch_grad_sq"][1:]
    assert (squares.sel(param=["always.weight", "always.bias"]) > 0).all()
    assert (squares.sel(param=["once.weight", "once.bias"]) == 0).all()

"""Changes of parameters outside the optimizer's step are declared; updates are the step's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gradscope

LR = 0.1


@torch.no_grad()
def lookahead(step, model, memory):
    """Pull the weights back to a slow copy every second step."""
    slow = memory.setdefault("slow", model.weight.clone())
    if step % 2 == 0:
        slow.lerp_(model.weight, 0.5)
        model.weight.copy_(slow)


@torch.no_grad()
def clamp(step, model, memory):
    """Clip the weights as WGAN does, from step 3 on."""
    if step >= 3:
        model.weight.clamp_(-0.05, 0.05)


@torch.no_grad()
def swap(step, model, memory):
    """Train on from the average of the weights after step 4."""
    average = memory.setdefault("average", model.weight.clone())
    average.lerp_(model.weight, 0.1)
    if step == 4:
        model.weight.copy_(average)


@torch.no_grad()
def borrow(step, model, memory):
    """Evaluate with other weights and put the own ones back."""
    own = model.weight.clone()
    model.weight.mul_(0)
    model.weight.copy_(own)


CASES = {lookahead: 3, clamp: 4, swap: 5, borrow: None}
"""What is done after a step, and the first step that begins at other weights."""


@pytest.mark.parametrize("change", CASES)
def test_changes_between_steps_are_declared(tmp_path, change):
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    memory, moves, norms = {}, [], []

    def train():
        with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
            for step in range(1, 8):
                optimizer.zero_grad()
                model(torch.randn(6, 4)).square().mean().backward()
                moves.append(LR * float(model.weight.grad.double().norm()))
                norms.append(float(model.weight.detach().double().norm()))
                optimizer.step()
                change(step, model, memory)

    first = CASES[change]
    if first is None:
        train()  # a warning would be an error
    else:
        with pytest.warns(RuntimeWarning, match=rf"change between two steps.*before step {first}"):
            train()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree.attrs.get("changed_outside_step") == first
    np.testing.assert_allclose(tree["updates/update_norm"].values[:, 0], moves, rtol=1e-4)
    np.testing.assert_allclose(tree["updates/param_norm"].values[:, 0], norms, rtol=1e-5)

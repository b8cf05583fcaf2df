"""An optimizer that the recorder was not given and that steps what is recorded is told at once."""

from __future__ import annotations

import copy
import sys
import warnings

import pytest
import torch
from torch.nn.functional import cross_entropy

import gradscope
from tests.record.loops.training_loops import data, mlp

MESSAGE = "an optimizer that gradscope was not given"


def train(model, optimizer, n_steps=2):
    x, y = data()
    for _ in range(n_steps):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()


def record(path, loop):
    """Run a loop with a model and its optimizer; return what was recorded and said."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gradscope.Recorder(model, optimizer, path):
            train(model, optimizer)
            loop(model, optimizer)
    said = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    return gradscope.open_recording(path), said


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_replaced_optimizer_is_told_at_its_first_step(tmp_path, goes_on):
    def loop(model, optimizer):
        with pytest.warns(RuntimeWarning, match=MESSAGE) as told:
            train(model, torch.optim.Adam(model.parameters()), 1)
        warnings.warn_explicit(told[0].message, RuntimeWarning, "loop", 1)
        train(model, torch.optim.Adam(model.parameters()), 200)
        if goes_on:
            train(model, optimizer)

    tree, said = record(tmp_path / "run.h5", loop)
    assert len(said) == 1
    assert said[0].startswith("after 2 recorded steps, ") and "(Adam)" in said[0]
    assert tree["training"].sizes["step"] == (4 if goes_on else 2)
    assert tree.attrs["changed_outside_step"] == 3
    assert not sys.modules["torch.optim.optimizer"]._global_optimizer_post_hooks


class Skipping(torch.optim.Optimizer):
    """A wrapper that leaves out every other step of the optimizer inside."""

    def __init__(self, inside):
        super().__init__(inside.param_groups, {})
        self.inside, self.n_calls = inside, 0

    def step(self, closure=None):
        self.n_calls += 1
        if self.n_calls % 2:
            self.inside.step()


class Stepping(torch.optim.SGD):
    """An optimizer that lets another one step some of its parameters."""

    def step(self, closure=None):
        super().step(closure)
        torch.optim.SGD([self.param_groups[0]["params"][0]], lr=0.0).step()


def with_a_wrapper(model, optimizer):
    train(model, Skipping(optimizer), 4)


def with_another_model(model, optimizer):
    other = copy.deepcopy(model)
    train(other, torch.optim.Adam(other.parameters()))
    train(model, optimizer)


@pytest.mark.parametrize("loop", [with_a_wrapper, with_another_model])
def test_nothing_is_said_of_wrappers_and_of_other_models(tmp_path, loop):
    tree, said = record(tmp_path / "run.h5", loop)
    assert tree["training"].sizes["step"] == 4 and not said


def test_nothing_is_said_of_what_the_optimizer_steps_itself_or_in_a_pause(tmp_path):
    model = mlp()
    optimizer = Stepping(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
            train(model, optimizer)
            recorder.pause()
            train(model, torch.optim.Adam(model.parameters(), lr=0.0))

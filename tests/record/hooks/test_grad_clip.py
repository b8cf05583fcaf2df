"""Clipping of every kind: the true norm before it, or a missing one; never a wrong one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)

import gradscope

MAX = 0.05


def once(model, optimizer):
    clip_grad_norm_(model.parameters(), MAX)


def one_by_one(model, optimizer):
    clip_grad_norm_(model.parameters(), MAX, foreach=False)


def generous(model, optimizer):
    clip_grad_norm_(model.parameters(), 1e6)


def twice(model, optimizer):
    clip_grad_norm_(model.parameters(), MAX)
    clip_grad_norm_(list(model.parameters()), MAX / 2)


def split(model, optimizer):
    params = list(model.parameters())
    clip_grads_with_norm_(params, MAX, get_total_norm([p.grad for p in params]))


def maximum_norm(model, optimizer):
    clip_grad_norm_(model.parameters(), MAX / 10, norm_type=math.inf)


def with_a_norm_that_is_changed(model, optimizer):
    norm = clip_grad_norm_(model.parameters(), MAX)
    norm /= 100


class Fabric:
    """Shape of Lightning's Fabric: clips what the optimizer holds."""

    def clip_gradients(self, optimizer):
        params = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(params, max_norm=MAX, norm_type=2.0)


def fabric(model, optimizer):
    Fabric().clip_gradients(optimizer)


def by_group(model, optimizer):
    for group in optimizer.param_groups:
        clip_grad_norm_(group["params"], MAX)


def by_parameter(model, optimizer):
    for p in model.parameters():
        clip_grad_norm_(p, MAX)


def a_part(model, optimizer):
    clip_grad_norm_(model[0].parameters(), MAX)


def by_value(model, optimizer):
    clip_grad_value_(model.parameters(), 0.001)


def and_noise_on_top(model, optimizer):
    clip_grad_norm_(model.parameters(), MAX)
    for p in model.parameters():
        p.grad += 0.01


def and_noise_before_the_second(model, optimizer):
    and_noise_on_top(model, optimizer)
    clip_grad_norm_(model.parameters(), MAX)


def and_a_gradient_by_hand(model, optimizer):
    """As differentially private training: what was clipped is summed, zeroed and set."""
    clip_grad_norm_(model.parameters(), MAX)
    sums = [3 * p.grad for p in model.parameters()]
    optimizer.zero_grad()
    for p, own in zip(model.parameters(), sums, strict=True):
        p.grad = own


def nothing(model, optimizer):
    pass


ONE_FACTOR = (
    *(once, one_by_one, generous, twice, split, maximum_norm, fabric),
    with_a_norm_that_is_changed,
)
BY_HAND = (and_noise_on_top, and_noise_before_the_second, and_a_gradient_by_hand)
SEVERAL = (by_group, by_parameter, a_part, by_value, *BY_HAND)


def train(path, clip):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    groups = [{"params": layer.parameters()} for layer in (model[0], model[2])]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    before, after = [], []
    with gradscope.Recorder(model, optimizer, path):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(6, 4)).square().mean().backward()
            before.append(norms(model))
            clip(model, optimizer)
            after.append(norms(model))
            optimizer.step()
    return gradscope.open_recording(path).load(), np.array(before), np.array(after)


def norms(model):
    return [float(p.grad.double().norm()) for p in model.parameters()]


@pytest.mark.parametrize("clip", [*ONE_FACTOR, *SEVERAL, nothing])
def test_the_norm_before_clipping_is_true_or_missing(tmp_path, clip):
    tree, before, after = train(tmp_path / "run.h5", clip)
    np.testing.assert_allclose(tree["gradients/grad_norm"], after, rtol=1e-5)
    total = np.sqrt((before**2).sum(axis=1))
    found = tree["training/total_grad_norm"].values
    coefficient = tree["training"].get("clip_coefficient")
    if clip in SEVERAL:
        assert np.isnan(found).all() and (coefficient is None or np.isnan(coefficient).all())
        return
    np.testing.assert_allclose(found, total, rtol=1e-4)
    if clip is nothing:
        assert coefficient is None or np.isnan(coefficient).all()
    else:
        factor = np.sqrt((after**2).sum(axis=1)) / total
        np.testing.assert_allclose(coefficient, factor, rtol=1e-4)
        assert (coefficient <= 1).all() and (clip is generous) == bool((coefficient == 1).all())


def test_clipping_an_infinite_norm_is_no_zero(tmp_path):
    model = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        model.weight.grad = torch.tensor([[3.0, torch.inf], [4.0, 0.0]])
        clip_grad_norm_(model.parameters(), 1.0)  # factor 0: (0, nan, 0, 0)
        optimizer.step()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert int(tree["gradients/grad_nonfinite"][0, 0]) == 1
    assert not np.isfinite(tree["training/total_grad_norm"][0])


def test_a_clipping_of_all_is_none_of_the_next_gradient_of_another_optimizer(tmp_path):
    """As in a search for architectures: the weights' step clips the gradients of both."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    optimizers = {n: torch.optim.SGD(model[i].parameters(), 0.1) for n, i in (("w", 0), ("a", 2))}
    norms_before = []
    with gradscope.Recorder(model, optimizers, tmp_path / "run.h5"):
        for k in range(6):
            name = "aw"[k % 2]
            optimizers[name].zero_grad()
            model(torch.randn(6, 4)).square().mean().backward()
            own = [p for group in optimizers[name].param_groups for p in group["params"]]
            norms_before.append(float(get_total_norm([p.grad for p in own])))
            if name == "w":
                clip_grad_norm_(model.parameters(), MAX)
            optimizers[name].step()
    training = gradscope.open_recording(tmp_path / "run.h5")["training"]
    np.testing.assert_allclose(training["total_grad_norm"], norms_before, rtol=1e-4)
    assert np.isnan(training["clip_coefficient"].values[::2]).all()
    assert (training["clip_coefficient"].values[1::2] < 1).all()


def clipped_twice(path, scale):
    """Clip between micro-batches too; return the norms before the last clipping, and the rows."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    norms = []
    with gradscope.Recorder(model, optimizer, path):
        for _ in range(3):
            optimizer.zero_grad()
            for _ in range(2):
                (scale * model(torch.randn(6, 4)).square().mean()).backward()
                norm = clip_grad_norm_(model.parameters(), MAX)
            norms.append(float(norm))
            optimizer.step()
    training = gradscope.open_recording(path)["training"]
    assert training["n_microbatches"].values.tolist() == [2, 2, 2]
    return norms, training


def test_clipping_between_micro_batches_has_no_factor(tmp_path):
    _, training = clipped_twice(tmp_path / "run.h5", 1e3 * MAX)
    for name in ("total_grad_norm", "clip_coefficient"):
        assert name not in training or np.isnan(training[name]).all()


def test_clipping_between_thousands_of_micro_batches(tmp_path):
    """Each backward call looks at those before it, and none is wrapped once more."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
        for k in range(1500):
            (1e-9 * model(torch.randn(6, 4))).sum().backward()
            if not k:
                clip_grad_norm_(model.parameters(), MAX)
        optimizer.step()
        assert recorder.step == 1
    training = gradscope.open_recording(tmp_path / "run.h5")["training"]
    assert training["clip_coefficient"].values.tolist() == [1.0]


def test_clipping_between_micro_batches_that_changes_nothing(tmp_path):
    norms, training = clipped_twice(tmp_path / "run.h5", 1e-3 * MAX)
    np.testing.assert_allclose(training["total_grad_norm"], norms, rtol=1e-5)
    assert (training["clip_coefficient"] == 1).all()


def test_what_is_clipped_of_other_models_is_not_remembered(tmp_path):
    model, other = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other(torch.ones(1, 4)).sum().backward()
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
        for _ in range(3):
            clip_grad_norm_(other.parameters(), MAX)
            model(torch.randn(6, 4)).square().mean().backward()
            optimizer.step()
        assert not recorder._events._hooks.clip._calls

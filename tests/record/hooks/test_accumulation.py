"""Which backward calls reach a step where a program writes to some gradients in between."""

from __future__ import annotations

import pytest
import torch

from tests.record.loops.training_loops import mlp, run

FIRST, LAST = 0, -1


@pytest.mark.parametrize("which", [FIRST, LAST])
@pytest.mark.parametrize("is_none", [True, False])
def test_a_layer_whose_gradient_is_zeroed_discards_no_micro_batch(tmp_path, which, is_none):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(k, recorder):
        optimizer.zero_grad()
        for _ in range(3):
            (model(torch.randn(5, 6)).square().mean() / 3).backward()
            layer = model[which]
            layer.zero_grad(set_to_none=is_none)
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    assert tree["training/n_microbatches"].values.tolist() == [3, 3, 3]
    assert tree["training/batch_size"].values.tolist() == [15, 15, 15]


@pytest.mark.parametrize("is_none", [True, False])
def test_gradients_that_are_all_zeroed_discard_what_came_before(tmp_path, is_none):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(k, recorder):
        for _ in range(3):
            optimizer.zero_grad(set_to_none=is_none)
            model(torch.randn(5, 6)).square().mean().backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    assert tree["training/n_microbatches"].values.tolist() == [1, 1, 1]
    assert tree["training/batch_size"].values.tolist() == [5, 5, 5]


@pytest.mark.parametrize("is_none", [True, False])
def test_a_backward_call_that_raised_and_is_tried_again_counts_once(tmp_path, is_none):
    """As after running out of memory: half the batch, until it fits."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    n_left = 0

    def run_out(grad):
        nonlocal n_left
        n_left -= 1
        if n_left >= 0:
            raise MemoryError

    model[0].weight.register_hook(run_out)
    x = torch.randn(16, 6)

    def step(k, recorder):
        nonlocal n_left
        n, n_left = 16, k - 1
        while True:
            optimizer.zero_grad(set_to_none=is_none)
            try:
                model(x[:n]).square().mean().backward()
                break
            except MemoryError:
                n //= 2
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    assert tree["training/n_microbatches"].values.tolist() == [1, 1, 1]
    assert tree["training/batch_size"].values.tolist() == [16, 8, 4]

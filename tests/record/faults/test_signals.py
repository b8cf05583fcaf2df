"""Handlers of signals raise while a function of ours runs for one."""

from __future__ import annotations

import functools
import signal

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.record.loops.training_loops import data, mlp, run


class TimeIsUpError(Exception):
    pass


class Handler:
    def __call__(self, number, frame):
        raise TimeIsUpError

    def method(self, number, frame):
        raise TimeIsUpError


def with_words(words, number, frame):
    raise TimeIsUpError(words)


KINDS = {
    "object": Handler(),
    "method": Handler().method,
    "partial": functools.partial(with_words, "stop"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_handler_of_a_signal_raises_is_the_programs(tmp_path, kind):
    """It comes at any time, while a function of ours runs for one; the loop catches it."""
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    n_caught, n_measured = 0, 0

    def measure(param, grad, state):
        nonlocal n_measured
        n_measured += 1
        if n_measured == 3:
            signal.raise_signal(signal.SIGTERM)
        return 1.0

    def step(k, recorder):
        nonlocal n_caught
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        try:
            optimizer.step()
        except TimeIsUpError:
            n_caught += 1

    before = signal.signal(signal.SIGTERM, KINDS[kind])
    try:
        tree = run(model, optimizer, tmp_path, step, n_steps=4, custom={"one": measure})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert n_caught == 1
    assert tree.attrs["status"] == "finished"
    np.testing.assert_array_equal(tree["custom/one"], np.ones((3, 4)))
    assert tree["training/batch_size"].values.tolist() == [16, 16, 16]

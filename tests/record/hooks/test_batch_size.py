"""The batch size of a step is right or missing, and the recording says how it is known."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import gradscope

N = 6
"""Examples in a batch."""


class Sum(nn.Module):
    """A head on whatever comes: a list of images, a dict, a graph."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, batch):
        tensors = batch.values() if isinstance(batch, dict) else batch
        return sum(self.fc(x).square().mean() for x in tensors if x.is_floating_point())


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 3)

    def forward(self, x):
        return self.rnn(x)[0]


class Nodes(nn.Module):
    """A layer on the nodes of a graph, sparse or not."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x, edges):
        return edges @ self.fc(x)


def row(n=N):
    return torch.randn(n, 4)


KINDS = {
    "inputs": (lambda: nn.Linear(4, 2), row, N, "first axis of the model's inputs"),
    "list": (Sum, lambda: [row(1) for _ in range(N)], -1, "that are not all tensors"),
    "lists of nodes and edges": (
        Sum,
        lambda: {"nodes": row(9), "edges": torch.zeros(2, 20, dtype=torch.long)},
        -1,
        "inputs and outputs whose first axes differ",
    ),
    "sparse graph": (
        Nodes,
        lambda: (row(), torch.eye(N).to_sparse()),
        -1,
        "relate rows to each other, such as a graph",
    ),
    "graph": (
        Nodes,
        lambda: (row(), torch.eye(N)),
        -1,
        "relate rows to each other, such as a graph",
    ),
    "one example": (lambda: nn.Linear(4, 4), lambda: torch.randn(4), -1, "may be one example"),
    "indices": (lambda: nn.Embedding(9, 4), lambda: torch.arange(N), N, "the model's inputs"),
    "time first": (TimeFirst, lambda: torch.randn(11, N, 4), -1, "that put time first"),
}


def train(path, model, batch, *, log=None, n_steps=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, path) as recorder:
        for step in range(n_steps):
            inputs = batch()
            inputs = inputs if isinstance(inputs, tuple) else (inputs,)
            model(*inputs).square().mean().backward()
            if log == "before":
                recorder.log(batch_size=N)
            optimizer.step()
            if log == "after" and step != 1:
                recorder.log(batch_size=N)
            optimizer.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_right_or_missing_and_its_source_is_said(tmp_path, kind):
    make, batch, expected, source = KINDS[kind]
    train(tmp_path / "run.h5", make(), batch)
    tree = gradscope.open_recording(tmp_path / "run.h5")
    size = tree["training"].get("batch_size")
    assert (size is None and expected == -1) or (size.fillna(-1) == expected).all()
    said = tree.attrs["batch_size_source"]
    assert said.endswith(source) and said.startswith("not known") == (expected == -1)


@pytest.mark.parametrize(("log", "known"), [("before", [N] * 3), ("after", [N, -1, N])])
def test_what_the_user_logs_counts(tmp_path, log, known):
    train(tmp_path / "run.h5", Sum(), lambda: [row(1) for _ in range(N)], log=log)
    tree = gradscope.open_recording(tmp_path / "run.h5")
    assert tree["training/batch_size"].fillna(-1).values.tolist() == known
    source = tree.attrs["batch_size_source"]
    assert "logged by the user" in source and ("not known" in source) == (log == "after")


@pytest.mark.parametrize(("n_calls", "expected"), [(3, N), (4, -1)])
def test_views_of_a_batch_are_one_batch_and_the_steps_of_an_episode_are_not(
    tmp_path, n_calls, expected
):
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(2):
            sum(model(row()).square().mean() for _ in range(n_calls)).backward()
            optimizer.step()
            optimizer.zero_grad()
    tree = gradscope.open_recording(tmp_path / "run.h5")
    size = tree["training"].get("batch_size")
    assert (size is None and expected == -1) or (size.fillna(-1) == expected).all()
    assert ("many calls" in tree.attrs["batch_size_source"]) == (expected == -1)
    assert tree["training/n_microbatches"].values.tolist() == [1, 1]


def tail_of(n):
    """Two calls, of N and of n examples, before one backward call."""

    def loop(first, second):
        (first(row()).square().mean() + first(row(n)).square().mean()).backward()

    return loop


def two_heads(first, second):
    """Two backward calls through one pass of the first model."""
    hidden = first(row())
    second(hidden).square().mean().backward(retain_graph=True)
    second(hidden).mean().backward()


def chunks(first, second):
    """The second model sees the batch in parts, the first as a whole."""
    hidden = first(row())
    cut = hidden.detach().requires_grad_()
    for part in cut.chunk(2):
        second(part).square().mean().backward()
    hidden.backward(cut.grad)


def in_time(first, second):
    """A state that goes through three steps of time, each with its backward call."""
    state = torch.zeros(N, 4)
    for _ in range(3):
        state = first(state + row())
        state.square().mean().backward(retain_graph=True)


@pytest.mark.parametrize(
    ("loop", "expected", "source"),
    [
        (tail_of(N), N, "first axis"),
        (tail_of(1), -1, "different numbers of examples"),
        (two_heads, N, "first axis"),
        (chunks, -1, "through different models"),
        (in_time, N, "first axis"),
    ],
    ids=["views", "unlike calls", "two heads", "chunks", "in time"],
)
def test_a_batch_that_several_passes_share_counts_once(tmp_path, loop, expected, source):
    first, second = nn.Linear(4, 4), nn.Linear(4, 2)
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    models = {"first": first, "second": second}
    with gradscope.Recorder(models, optimizer, tmp_path / "run.h5"):
        for _ in range(2):
            loop(first, second)
            optimizer.step()
            optimizer.zero_grad()
    tree = gradscope.open_recording(tmp_path / "run.h5")
    size = tree["training"].get("batch_size")
    assert (size is None and expected == -1) or (size.fillna(-1) == expected).all()
    assert source in tree.attrs["batch_size_source"]


def test_a_step_without_a_forward_pass_of_the_model(tmp_path):
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        (row() @ model.weight.T).square().mean().backward()
        optimizer.step()
    tree = gradscope.open_recording(tmp_path / "run.h5")
    assert np.isfinite(tree["gradients/grad_norm"].sel(param="weight")).all()
    assert tree.attrs["batch_size_source"] == "not known without a forward pass"
    assert "batch_size" not in tree["training"]


def test_the_variable_says_it_too_in_every_file(tmp_path):
    path = tmp_path / "run.h5"
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    text = "first axis of the model's inputs"
    with gradscope.Recorder(model, optimizer, path) as recorder:
        for _ in range(4):
            model(row()).square().mean().backward()
            optimizer.step()
            recorder.flush()
            newest = sorted((tmp_path / "run.h5.part").glob("*.h5"))[-1]
            with h5py.File(newest) as segment:
                assert segment["training/batch_size"].attrs["source"].decode() == text
    with h5py.File(path) as file:
        assert file["training/batch_size"].attrs["source"].decode() == text
        assert "source" not in file["training/wall_time"].attrs
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        assert tree["training/batch_size"].attrs["source"] == text

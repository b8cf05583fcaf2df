"""What recording itself takes."""

from __future__ import annotations

import itertools

import pytest
import torch

import gradscope
from gradscope.record.measure.reference.sums import LAYER_SUMS, MOMENT_LOG2_COUNTS, PARAM_SUMS
from gradscope.record.rows.stream import CAPACITY


def train(recorder, model, optimizer, n_steps):
    for _ in range(n_steps):
        loss = model(torch.ones(4, 64)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        recorder.log(loss=loss)


def test_memory_is_one_copy_of_the_parameters_and_fixed_buffers(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64))
    optimizer = torch.optim.Adam(model.parameters())
    copy = sum(p.nbytes for p in model.parameters())
    n_params, n_layers = 4, 3
    row = n_params * (len(PARAM_SUMS) + MOMENT_LOG2_COUNTS.stop) + n_layers * len(LAYER_SUMS)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", every=1) as recorder:
        train(recorder, model, optimizer, 2)
        early = recorder.cost.memory
        train(recorder, model, optimizer, 3 * CAPACITY)
        assert recorder.cost.memory == early
    assert copy < early <= copy + CAPACITY * row * 8


def test_cost_counts_what_was_written_and_spent(tmp_path):
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters())
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
        train(recorder, model, optimizer, 3)
        recorder.flush()
        cost = recorder.cost
    assert cost.bytes > 0
    assert 0 < cost.seconds < 60


def test_the_time_of_the_steps_adds_up_to_that_of_the_run(tmp_path):
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters())
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
        train(recorder, model, optimizer, 5)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    total = float(tree["training/record_time"].sum())
    assert total == pytest.approx(tree.attrs["record_seconds"], rel=1e-5)


def test_a_budget_thins_the_recorded_steps_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("gradscope.record.rows.budget.Budget._fix", lambda self: fix(self, 4))
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters())
    options = {"max_overhead": 0.02, "histogram_every": 1}
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", **options) as recorder:
        train(recorder, model, optimizer, 90)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert (tree.attrs["max_overhead"], tree.attrs["thinning"]) == (0.02, 4)
    steps = tree["gradients"]["step"].values.tolist()
    trial = [10 + b + r for b in range(0, 40, 10) for r in range(1, 6)]
    assert steps[:30] == [*range(1, 11), *trial]
    assert {b - a for a, b in itertools.pairwise(steps[30:])} == {4}
    assert tree["training"].sizes["step"] == 90


def fix(budget, thinning):
    budget.thinning = thinning


@pytest.mark.parametrize("options", [{"every": 5}, {"record": "full"}, {"flight_recorder": 5}])
def test_a_budget_goes_with_nothing_that_sets_the_cost(tmp_path, options):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(ValueError, match="max_overhead"):
        gradscope.Recorder(model, optimizer, tmp_path / "run.h5", max_overhead=0.02, **options)
    assert not list(tmp_path.iterdir())

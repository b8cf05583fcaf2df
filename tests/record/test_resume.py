"""A recording that goes on from a checkpoint."""

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


def test_resume_goes_on_from_the_checkpoint(tmp_path):
    def make():
        model, x, y = problem()
        return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), x, y

    def train(model, optimizer, recorder, x, y, n):
        for _ in range(n):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            recorder.log(loss=loss)

    options = {"second_moment": "own", "every": 2, "histogram_every": 2}
    model, optimizer, x, y = make()
    with gradscope.Recorder(model, optimizer, tmp_path / "whole.h5", **options) as recorder:
        train(model, optimizer, recorder, x, y, 9)

    model, optimizer, x, y = make()
    recorder = gradscope.Recorder(model, optimizer, tmp_path / "parts.h5", **options)
    train(model, optimizer, recorder, x, y, 5)
    checkpoint = {
        "model": {k: v.clone() for k, v in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "recorder": recorder.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    train(model, optimizer, recorder, x, y, 2)  # lost: after the checkpoint
    recorder.close("interrupted")

    model, optimizer, x, y = make()
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    with gradscope.Recorder(
        model, optimizer, tmp_path / "parts.h5", if_exists="resume", **options
    ) as recorder:
        recorder.load_state_dict(checkpoint["recorder"])
        assert recorder.step == 5
        again = recorder.state_dict()  # a checkpoint before the first step loses nothing
        assert again["step"] == 5 and set(again["own"]) == set(checkpoint["recorder"]["own"])
        train(model, optimizer, recorder, x, y, 4)
    whole = gradscope.open_recording(tmp_path / "whole.h5").load()
    parts = gradscope.open_recording(tmp_path / "parts.h5").load()
    for name in (
        "training/loss",
        "training/lr",
        "gradients/grad_norm",
        "updates/update_norm",
        "second_moments/exp_avg_sq_mean",
        "second_moments/state_step",
        "histograms/exp_avg_sq_histogram",
        "activations/output_grad_rms",
    ):
        assert parts[name]["step"].values.tolist() == whole[name]["step"].values.tolist(), name
        np.testing.assert_array_equal(parts[name].values, whole[name].values, err_msg=name)
    assert parts.attrs["status"] == "finished"


def test_load_state_dict_comes_first(tmp_path):
    model, x, y = problem()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
        cross_entropy(model(x), y).backward()
        optimizer.step()
        with pytest.raises(gradscope.errors.UsageError, match="before the first step"):
            recorder.load_state_dict(recorder.state_dict())


@pytest.mark.parametrize(
    "state",
    [None, [], {}, {"step": 1}, {"step": "five", "n_recorded": 5}, {"step": 5, "n_recorded": None}]
    + [{"step": 5, "n_recorded": 5, "own": own} for own in (None, [1], {"weight": 1})],
    ids=repr,
)
def test_what_is_no_state_is_an_error_and_the_recording_goes_on(tmp_path, state):
    model, x, y = problem()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
        with pytest.raises(gradscope.errors.UsageError, match=r"what recorder.state_dict\(\) ret"):
            recorder.load_state_dict(state)
        for _ in range(2):
            cross_entropy(model(x), y).backward()
            optimizer.step()
    tree = gradscope.open_recording(tmp_path / "run.h5")
    assert tree["gradients/grad_norm"].sizes["step"] == 2 and tree.attrs["status"] == "finished"


def test_a_state_without_moments_is_enough(tmp_path):
    """Such is that of a recorder that has stopped because of a fault."""
    model, x, y = problem()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", record="full") as recorder:
        recorder.load_state_dict({"step": 5, "n_recorded": 5})
        cross_entropy(model(x), y).backward()
        optimizer.step()
    tree = gradscope.open_recording(tmp_path / "run.h5")
    assert tree["gradients/grad_norm"]["step"].values.tolist() == [6]


def test_resuming_without_a_state_keeps_every_row_and_says_so(tmp_path):
    def steps(n, first, **options):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", **options) as recorder:
            recorder.log(val_loss=float(first))
            for k in range(n):
                model(torch.ones(2, 3)).sum().backward()
                optimizer.step()
                recorder.log(loss=float(first + k))

    steps(4, 10)
    with pytest.warns(RuntimeWarning, match="resumed without load_state_dict: .* its 4 steps"):
        steps(2, 20, if_exists="resume")
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["training/step"].values.tolist() == [1, 2, 3, 4, 5, 6]
    assert tree["training/loss"].values.tolist() == [10, 11, 12, 13, 20, 21]
    assert tree["evaluation/step"].values.tolist() == [0, 4]
    assert tree["gradients/grad_norm"].sizes["step"] == 6

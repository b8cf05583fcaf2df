"""Names of logged numbers: every one is stored, or refused when it is logged."""

from __future__ import annotations

import doctest

import pytest
import torch

import gradscope
from gradscope.record.rows import logged


def test_examples():
    assert doctest.testmod(logged).failed == 0


def recorder_of(path):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, gradscope.Recorder(model, optimizer, path)


@pytest.mark.parametrize(
    ("name", "group", "stored"),
    [
        ("train/loss", "training", "train.loss"),
        ("my loss", "training", "my_loss"),
        ("Verlust (µ)", "training", "Verlust____"),
        ("val_loss", "evaluation", "val_loss"),
        ("val/loss", "training", "val.loss"),
    ],
)
def test_a_name_is_stored_where_the_page_says(tmp_path, name, group, stored):
    model, optimizer, recorder = recorder_of(tmp_path / "run.h5")
    with recorder:
        for k in range(3):
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
            recorder.log(loss=1.0, **{name: k + 0.5})
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree[group][stored].dropna("step").values.tolist() == [0.5, 1.5, 2.5]
    assert tree["training/loss"].values.tolist() == [1.0] * 3


@pytest.mark.parametrize(
    "name", ["step", "lr", "param_group", "depth", "", "///", "损失", "grad/../"]
)
def test_a_name_that_cannot_be_is_refused_at_once(tmp_path, name):
    model, optimizer, recorder = recorder_of(tmp_path / "run.h5")
    with recorder:
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        if name != "grad/../":
            with pytest.raises(ValueError, match=r"log another name|cannot name a logged number"):
                recorder.log(**{name: 1.0})
        else:
            recorder.log(**{name: 1.0})  # no way out of the group
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["training"].sizes["step"] == 1

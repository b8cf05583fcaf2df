"""Names of logged numbers: every one is stored, or refused when it is logged."""

from __future__ import annotations

import doctest
import json

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


def train_and_log(path, names, **options):
    """Log each name's own number in each of three steps."""
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, path, **options) as recorder:
        for k in range(3):
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
            recorder.log(**{name: 10 * k + value for name, value in names.items()})


ALIKE = [
    ("a/b", "a.b", "a.b/"),
    ("my loss", "my_loss", "my-loss", "my+loss"),
    ("val loss", "val_loss"),
    ("loss", "/loss", "loss/"),
    ("1st", "_1st"),
    ("x-2", "x", "x.", "x/"),
]


@pytest.mark.filterwarnings("ignore:.* would be stored under the name of")
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("names", ALIKE)
def test_names_that_would_be_stored_alike_are_told_apart(tmp_path, names, order):
    path, values = tmp_path / "run.h5", {name: i + 0.5 for i, name in enumerate(names)}
    train_and_log(path, dict(list(values.items())[::order]))
    train_and_log(path, dict(list(values.items())[::-order]), if_exists="resume")
    tree = gradscope.open_recording(path).load()
    logged = {"loss": "loss", **json.loads(tree.attrs["logged_names"])}
    found = {}
    for group in ("training", "evaluation"):
        for stored, column in tree[group].data_vars.items() if group in tree.children else ():
            if stored in logged:
                found[logged[stored]] = column.dropna("step").values.tolist()
    expected = {name: [10 * k + value for k in (0, 1, 2)] * 2 for name, value in values.items()}
    assert found == expected


def test_a_name_that_is_stored_differently_is_said_once(tmp_path):
    with pytest.warns(RuntimeWarning, match=r"'a\.b' would be stored under the name of 'a/b'") as w:
        train_and_log(tmp_path / "run.h5", {"a/b": 1.0, "a.b": 2.0})
    assert len(w) == 1 and "it is stored as 'a.b-2'" in str(w[0].message)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["training/a.b-2"].values.tolist() == [2.0, 12.0, 22.0]
    assert tree.attrs["logged_names"] == '{"a.b": "a/b", "a.b-2": "a.b"}'

"""What users say of a run: stored as root attributes, and shown without splitting conditions."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import gradscope
from gradscope.derived.compare.conditions import conditions_by_setting
from gradscope.record.provenance import describe_story


def record(path, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, path, **options) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().mean().backward()
            optimizer.step()
    return recorder.path


def test_the_story_is_stored_and_conditions_are_not_split_by_it(tmp_path):
    config = {"width": 8, "data": {"name": "toy"}}
    first = record(
        tmp_path / "a.h5", config=config, name="first try", tags=["toy", "sgd"], notes="a\nb"
    )
    second = record(tmp_path / "b.h5", config=config, name="second", tags="sgd")
    attrs = gradscope.open_recording(first).attrs
    assert (attrs["run_name"], attrs["tags"], attrs["notes"]) == ("first try", "toy, sgd", "a\nb")
    assert json.loads(attrs["config_json"]) == config
    with gradscope.open_runs([first, second]) as runs:
        assert runs["run_name"].values.tolist() == ["first try", "second"]
        assert [c.name for c in conditions_by_setting(runs)] == ["all runs"]
        over_tags = conditions_by_setting(runs, ["tags"])
        assert [c.name for c in over_tags] == ["tags = toy, sgd", "tags = sgd"]


def test_nothing_said_is_nothing_stored(tmp_path):
    attrs = gradscope.open_recording(record(tmp_path / "a.h5")).attrs
    assert not {"run_name", "tags", "notes", "config_json"} & set(attrs)


@dataclasses.dataclass
class Settings:
    width: int = 3
    folder: Path = Path("data")


def test_settings_of_many_kinds_become_json():
    for config, expected in (
        (Settings(), {"width": 3, "folder": "data"}),
        (argparse.Namespace(lr=np.float32(0.5), on=True), {"lr": 0.5, "on": True}),
        ({1: torch.tensor(2), "d": torch.float32}, {"1": 2, "d": "torch.float32"}),
        (
            {"nested": Settings(), "list": (1, "x")},
            {"nested": {"width": 3, "folder": "data"}, "list": [1, "x"]},
        ),
    ):
        assert json.loads(describe_story(config, "", (), "")["config_json"]) == expected


def test_what_hdf5_cannot_store_is_left_out():
    story = describe_story(None, "a\0b\udcff", (), "")
    assert story == {"run_name": "ab?"}


@pytest.mark.parametrize(
    ("story", "kind", "words"),
    [
        ((3, "", (), ""), TypeError, "`config` must be a dict"),
        ((None, 3, (), ""), TypeError, "`name` must be text"),
        ((None, "", ("a,b",), ""), ValueError, "without commas"),
        ((None, "", [1], ""), TypeError, "`tags` must be text"),
    ],
)
def test_mistakes_are_said_before_a_file_is_made(tmp_path, story, kind, words):
    with pytest.raises(kind, match=words):
        names = ("config", "name", "tags", "notes")
        record(tmp_path / "a.h5", **dict(zip(names, story, strict=True)))
    assert not list(tmp_path.iterdir())

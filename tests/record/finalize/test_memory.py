"""Memory that is said beforehand, against what a recording then holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradscope


def build():
    model = nn.Sequential(nn.Linear(50, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Linear(64, 3))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"record": "light"},
        {"record": "full"},
        {"second_moment": "own"},
        {"include": "weight", "histogram_every": 1},
        {"custom": {"sign": lambda p, g, s: g.sign().mean()}},
    ],
    ids=["default", "light", "full", "own", "weights", "custom"],
)
def test_it_is_what_the_recorder_holds(tmp_path, options):
    model, optimizer = build()
    said = gradscope.estimate_memory(model, optimizer, **options)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", **options) as recorder:
        for _ in range(3):
            model(torch.randn(8, 50)).square().mean().backward()
            optimizer.step()
        assert recorder.cost.memory == said.total


def test_a_billion_parameters_on_the_meta_device():
    with torch.device("meta"):
        blocks = [nn.TransformerEncoderLayer(2048, 16, 8192, batch_first=True) for _ in range(20)]
        model = nn.Sequential(*blocks).bfloat16()
    n = sum(p.numel() for p in model.parameters())
    assert n > 1e9
    optimizer = torch.optim.AdamW(model.parameters())
    standard = gradscope.estimate_memory(model, optimizer)
    assert standard.copies == 2 * n
    assert standard.buffers < 0.01 * standard.copies
    light = gradscope.estimate_memory(model, optimizer, record="light")
    assert light.copies == 0
    assert light.total < 10e6

"""A recording whose sums come from the optimizer's own pass, against one of separate passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscope
from gradscope.optim.smes import SMES
from gradscope.record.measure.offered import OfferedSums

GROUPS = ("gradients", "updates", "second_moments")


def train(path, *, alpha=-0.2, scaler=None, fused=None, record="standard", bare=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 300), nn.Tanh(), nn.Linear(300, 4))
    x, y = torch.randn(64, 20), torch.randint(0, 4, (64,))
    optimizer = SMES(model.parameters(), lr=0.01, alpha=alpha, fused=fused)
    scaler = scaler and torch.amp.GradScaler("cpu", init_scale=scaler, growth_interval=100)

    def run(recorder=None):
        for step in range(6):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            if scaler:
                scaler.scale(loss * (torch.inf if step == 3 else 1.0)).backward()
                scaler.step(optimizer)
                scaler.update()
            else:
                loss.backward()
                optimizer.step()

    if bare:
        run()
    else:
        with gradscope.Recorder(
            model, optimizer, path, record=record, grad_scaler=scaler or None
        ) as recorder:
            run(recorder)
    return [p.detach().clone() for p in model.parameters()]


@pytest.fixture
def asked(monkeypatch):
    """Count what the optimizer has filled."""
    filled = []
    collect = OfferedSums.updates

    def counted(self, *arguments):
        if self._request is not None:
            filled.append(len(self._request.filled))
        collect(self, *arguments)

    monkeypatch.setattr(OfferedSums, "updates", counted)
    return filled


@pytest.mark.parametrize("alpha", [-0.2, 0.1])
@pytest.mark.parametrize(
    ("scaler", "fused", "filled"),
    [
        (None, None, [4] * 6),
        (1024.0, True, [4, 4, 4, 0, 4, 4]),  # the optimizer skips the step
        (1024.0, None, [4, 4, 4, 4, 4]),  # the scaler does not call it
    ],
)
def test_a_recording_is_the_same_and_so_are_the_weights(
    tmp_path, asked, alpha, scaler, fused, filled, monkeypatch
):
    options = {"alpha": alpha, "scaler": scaler, "fused": fused}
    weights = train(tmp_path / "offered.h5", **options)
    assert asked == filled
    bare = train(None, bare=True, **options)
    monkeypatch.setattr(OfferedSums, "is_offered", lambda self, optimizer, params: False)
    separate = train(tmp_path / "separate.h5", **options)
    for a, b, c in zip(weights, separate, bare, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    one, other = (
        gradscope.open_recording(tmp_path / name).load() for name in ("offered.h5", "separate.h5")
    )
    for group in GROUPS:
        for name in one[group].data_vars:
            np.testing.assert_allclose(
                one[group][name], other[group][name], rtol=1e-5, atol=1e-12, err_msg=name
            )


def test_no_copy_of_the_parameters_is_held(tmp_path):
    model = nn.Linear(300, 300)
    optimizer = SMES(model.parameters(), alpha=-0.2)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
        model(torch.ones(2, 300)).sum().backward()
        optimizer.step()
        stepper = recorder._events._pipeline.stepper
        assert not stepper._copies


def test_a_part_of_the_sums_is_measured_in_separate_passes(tmp_path, asked):
    train(tmp_path / "run.h5", record={"gradients"})
    assert asked == []

"""Flight recorder: full rate around an event, one event a breakdown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscope
from gradscope.record.finalize.flight_recorder import (
    LOSS_SPIKE,
    NONFINITE_GRADIENT,
    NONFINITE_LOSS,
    SpikeDetector,
)


def problem(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))
    return model, torch.randn(64, 20), torch.randint(0, 4, (64,))


@pytest.mark.parametrize("bad_step", [45, 46])
@pytest.mark.parametrize(
    ("how", "reason"),
    [("spike", LOSS_SPIKE), ("nan loss", NONFINITE_LOSS), ("inf gradient", NONFINITE_GRADIENT)],
)
def test_flight_recorder_keeps_full_rate_around_an_event(tmp_path, how, reason, bad_step):
    model, x, y = problem()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    path = tmp_path / "run.h5"
    with gradscope.Recorder(model, optimizer, path, every=20, flight_recorder=5) as recorder:
        for step in range(1, 81):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            if how == "inf gradient" and step == bad_step:
                model[2].bias.grad[0] = math.inf
            norm = float(model[0].weight.grad.norm())
            if step != bad_step or how != "inf gradient":
                optimizer.step()
            else:
                saved = model[2].bias.detach().clone()
                optimizer.step()
                with torch.no_grad():
                    model[2].bias.copy_(saved)
            factor = (
                {"spike": 50.0, "nan loss": math.nan}.get(how, 1.0) if step == bad_step else 1.0
            )
            recorder.log(loss=loss.detach() * factor)
            if step == bad_step:
                norm_then = norm
    tree = gradscope.open_recording(path).load()
    assert tree["gradients"]["step"].values.tolist() == [1, 21, 41, 61]
    assert tree["spikes"]["event"].values.tolist() == [bad_step]
    assert tree["spikes/spike_reason"].values.tolist() == [reason]
    expected = list(range(bad_step - 5, bad_step + 6))
    for group in ("training", "gradients", "updates", "activations"):
        assert tree["spikes"][group]["step"].values.tolist() == expected
    kept = tree["spikes/gradients/grad_norm"].sel(param="0.weight", step=bad_step)
    assert float(kept) == pytest.approx(norm_then, rel=1e-6)


def test_a_run_that_stays_broken_fires_once():
    detector = SpikeDetector()
    calls = [detector.judge(1.0, 0) for _ in range(30)] + [
        detector.judge(math.nan, 9) for _ in range(9)
    ]
    assert [c for c in calls if c is not None] == [NONFINITE_LOSS]
    assert detector.judge(1.0, 0) is None
    assert detector.judge(1.0, 3) == NONFINITE_GRADIENT


def test_noisy_but_healthy_losses_rarely_fire():
    generator = np.random.default_rng(0)
    detector = SpikeDetector()
    losses = 1 + 0.1 * generator.standard_normal(5000)
    # 6 MAD are 4.05 standard deviations: 2.6e-5 a step, more with an estimated MAD
    assert sum(detector.judge(loss, 0) is not None for loss in losses) <= 5

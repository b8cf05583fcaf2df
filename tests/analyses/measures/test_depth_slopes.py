"""Depth slopes: planted growth is found, offsets between stages are none, the null stays quiet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from analyses.measures.depth_slopes import depth_slopes, phase_means, within_stage_slopes
from analyses.measures.known_slopes import known_slope, tanh_chi
from gradscope.errors import RecordingError
from gradscope.experiments.models.plain import Plain
from gradscope.optim.smes import SMES
from gradscope.record.recorder import Recorder
from gradscope.store.read.recording import open_recording
from tests.helpers import write_recording

STAGE = np.array([0, 0, 0, 1, 1, 2])
DEPTH = np.arange(6.0)


@pytest.mark.parametrize("slope", [-0.19, 0.0, 0.3])
def test_a_planted_slope_is_found_whatever_the_stages_offsets(slope):
    offsets = np.array([0.0, 5.0, -3.0])[STAGE]
    found = within_stage_slopes((slope * DEPTH + offsets)[None], DEPTH, STAGE)
    assert found == pytest.approx([slope], abs=1e-12)


def test_noise_without_a_slope_averages_to_none():
    rng = np.random.default_rng(0)
    found = within_stage_slopes(rng.normal(size=(4000, 6)), DEPTH, STAGE)
    # Var of the slope is 1 / sum of squared within-stage depths = 1 / 2.5.
    assert abs(found.mean()) < 4 * np.sqrt(1 / 2.5 / 4000)
    assert found.var() == pytest.approx(1 / 2.5, rel=0.1)


def test_a_step_with_a_vanished_gradient_has_no_slope():
    values = np.stack([DEPTH, np.where(DEPTH == 2, -np.inf, DEPTH)])
    assert np.isnan(within_stage_slopes(values, DEPTH, STAGE)).tolist() == [False, True]


def test_stages_of_one_layer_say_nothing():
    assert np.isnan(within_stage_slopes(DEPTH[None], DEPTH, np.arange(6))).all()


def test_slopes_of_a_recording_come_from_its_inner_weights(tmp_path):
    # The made-up recording has slope -0.3 a layer in every magnitude and noise of 0.4.
    with open_recording(write_recording(tmp_path / "run.h5", n_steps=400, n_layers=12)) as tree:
        slopes = depth_slopes(tree)
    for quantity in ("output_grad_rms", "grad_rms"):
        # 400 steps of 10 inner layers in 5 stages of two or so: a standard error near 0.01.
        assert slopes[quantity].mean() == pytest.approx(-0.3, abs=0.04)
    means = phase_means(slopes, 400)
    assert list(means) == ["start", "1 %", "10 %", "last 10 %"]
    assert means["start"]["grad_rms"] == pytest.approx(float(slopes["grad_rms"][0]))
    late = slopes["grad_rms"].sel(step=slice(361, None))
    assert means["last 10 %"]["grad_rms"] == pytest.approx(float(late.mean()))


def test_too_few_layers_and_missing_groups_are_named(tmp_path):
    with open_recording(write_recording(tmp_path / "small.h5", n_steps=2, n_layers=3)) as tree:
        with pytest.raises(RecordingError, match="four weight layers; this net has 3"):
            depth_slopes(tree)
    with open_recording(tmp_path / "small.h5", groups=("gradients",)) as tree:
        with pytest.raises(RecordingError, match="need /activations, which was not recorded"):
            depth_slopes(tree)


CONTROLS = [
    {"activation": "relu", "batch_norm": True, "gain": 1.0, "bias": False},
    {"activation": "relu", "batch_norm": False, "gain": 1.0, "bias": False},
    {"activation": "relu", "batch_norm": False, "gain": 0.8, "bias": False},
    {"activation": "tanh", "batch_norm": False, "gain": 0.8, "bias": True},
]


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_plain_nets_have_their_known_slopes(control, tmp_path):
    slopes = []
    for seed in range(4):
        torch.manual_seed(seed)
        model = Plain(64, 128, 10, depth=16, **control)
        path = tmp_path / f"{seed}.h5"
        optimizer = SMES(model.parameters(), lr=1e-3, alpha=0.0)
        with Recorder(model, optimizer, path):
            loss = nn.functional.cross_entropy(model(torch.randn(128, 64)), torch.arange(128) % 10)
            loss.backward()
            optimizer.step()
        with open_recording(path) as tree:
            slopes.append(float(depth_slopes(tree)["output_grad_rms"][0]))
    # At width 128 single nets scatter by 0.02 to 0.03.
    assert np.mean(slopes) == pytest.approx(known_slope(control), abs=0.035)


def test_tanh_factor_agrees_with_sampling():
    rng, gain, bias = np.random.default_rng(0), 0.8, 0.1
    z = rng.normal(size=300_000)
    q = 1.0
    for _ in range(40):
        q = gain**2 * np.mean(np.tanh(np.sqrt(q) * z) ** 2) + bias**2
    sampled = gain**2 * np.mean((1 - np.tanh(np.sqrt(q) * z) ** 2) ** 2)
    assert tanh_chi(gain, bias) == pytest.approx(sampled, rel=5e-3)

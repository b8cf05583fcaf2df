"""Histograms of gradients and second moments, and `record="full"`."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscope


def problem(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))
    return model, torch.randn(64, 20), torch.randint(0, 4, (64,))


def log2_bins(values):
    """Power of two below each non-zero magnitude, by NumPy's own logarithm of exact powers."""
    magnitude = np.abs(values[values != 0].astype(np.float64))
    return np.floor(np.log2(magnitude)).astype(int)


def test_histograms_equal_numpy_and_cover_every_entry(tmp_path):
    model, x, y = problem()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    seen = {}
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", histogram_every=3) as recorder:
        for step in range(1, 8):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            model[0].weight.grad[0, :5] = 0
            grad = model[0].weight.grad.numpy().copy()
            optimizer.step()
            v = optimizer.state[model[0].weight]["exp_avg_sq"].numpy().copy()
            seen[step] = (grad, v)
        recorder.log(loss=1.0)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    histograms = tree["histograms"].sel(param="0.weight")
    assert histograms["step"].values.tolist() == [1, 4, 7]
    for step in (1, 4, 7):
        row = histograms.sel(step=step)
        for name, values, low in (
            ("grad", seen[step][0], -80),
            ("exp_avg_sq", seen[step][1], -149),
        ):
            counts = row[f"{name}_histogram"].values
            expected = np.bincount(log2_bins(values) - low, minlength=len(counts))
            np.testing.assert_array_equal(counts, expected)
            assert int(row[f"{name}_histogram_zero"]) == (values == 0).sum()
            outside = [
                int(row[f"{name}_histogram_{k}"]) for k in ("zero", "under", "over", "nonfinite")
            ]
            assert counts.sum() + sum(outside) == 600
    assert histograms["grad_bin"].values[[0, -1]].tolist() == [-80, 15]
    assert histograms["moment_bin"].values[[0, -1]].tolist() == [-149, 31]


def test_histograms_of_a_scaled_fused_step_are_unscaled(tmp_path):
    trees = []
    for scale in (1.0, 1024.0):
        model, x, y = problem()
        optimizer = torch.optim.Adam(model.parameters(), 0.01, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        path = tmp_path / f"{scale}.h5"
        with gradscope.Recorder(model, optimizer, path, grad_scaler=scaler, histogram_every=1):
            for _ in range(2):
                optimizer.zero_grad()
                scaler.scale(cross_entropy(model(x), y)).backward()
                scaler.step(optimizer)
                scaler.update()
        trees.append(gradscope.open_recording(path).load()["histograms"])
    plain, scaled = trees
    for name in ("grad_histogram", "grad_histogram_zero", "exp_avg_sq_histogram"):
        np.testing.assert_array_equal(plain[name], scaled[name])


def test_full_records_everything(tmp_path):
    model, x, y = problem()
    optimizer = torch.optim.Adam(model.parameters())
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", record="full") as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            for part in range(2):
                cross_entropy(model(x[part::2]), y[part::2]).div(2).backward()
            optimizer.step()
            recorder.log(loss=1.0)
    tree = gradscope.open_recording(tmp_path / "run.h5")
    assert set(tree.children) >= {
        "training",
        "gradients",
        "second_moments",
        "updates",
        "activations",
        "histograms",
        "sketches",
        "noise",
    }
    assert tree["histograms"].sizes["step"] == 3

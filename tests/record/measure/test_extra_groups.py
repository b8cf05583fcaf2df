"""Histograms, sketches, noise scale, flight recorder and resumption."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscope
from gradscope.derived.gradient_angle import sketch_cosine
from gradscope.errors import RecordingError
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


def octaves(values):
    """Octave of each non-zero magnitude, by NumPy's own logarithm of exact powers."""
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
            expected = np.bincount(octaves(values) - low, minlength=len(counts))
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


def test_sketches_give_the_cosine_between_any_two_steps(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(200, 100, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    a, noise = torch.randn(100, 200), torch.randn(100, 200)
    grads = [a, 2 * a, a + noise, noise]
    before = torch.get_rng_state()
    with gradscope.Recorder(
        model, optimizer, tmp_path / "run.h5", record={"gradients", "sketches"}
    ):
        for grad in grads:
            model.weight.grad = grad.clone()
            optimizer.step()
    assert torch.equal(before, torch.get_rng_state())
    tree = gradscope.open_recording(tmp_path / "run.h5").load()

    def cosine(i, j):
        return float(sketch_cosine(tree, i, j).sel(param="weight"))

    def true(i, j):
        return float(
            nn.functional.cosine_similarity(grads[i - 1].flatten(), grads[j - 1].flatten(), 0)
        )

    assert cosine(1, 2) == pytest.approx(1, abs=0.6)
    for pair in ((1, 3), (3, 4), (1, 4)):
        assert cosine(*pair) == pytest.approx(true(*pair), abs=4 / 8)  # four standard deviations
    with pytest.raises(RecordingError, match="nearest recorded step is 4"):
        sketch_cosine(tree, 1, 9)


def test_sketches_are_unbiased():
    from gradscope.record.measure.sketch import Sketcher
    from gradscope.record.model.layers import Param

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(777, generator=generator), torch.randn(777, generator=generator)
    b = b + 0.5 * a
    param = Param("p", nn.Parameter(a), None, "other")
    products = [
        float(sketcher.sketch(param, a) @ sketcher.sketch(param, b))
        for sketcher in map(Sketcher, range(400))
    ]
    error = np.std(products) / 20
    assert abs(np.mean(products) - float(a.double() @ b.double())) < 4 * error
    assert np.std(products) == pytest.approx(float(a.norm() * b.norm()) / 8, rel=0.25)


def test_noise_scale_finds_the_planted_noise(tmp_path):
    """Gradients G + noise of known trace per example: tr(Sigma) / |G|^2 is planted."""
    torch.manual_seed(0)
    n, b, dimension = 8, 4, 400
    signal = torch.full((dimension,), 0.5)  # |G|^2 = 100
    sigma = 3.0  # tr Sigma = 9 * 400
    model = nn.Linear(dimension, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", record={"noise"}):
        for _ in range(60):
            optimizer.zero_grad()
            for _ in range(n):
                # d loss / d weight is the mean of the rows of x
                x = signal + sigma * torch.randn(b, dimension)
                (model(x).mean() / n).backward()
            optimizer.step()
    noise = gradscope.open_recording(tmp_path / "run.h5").load()["noise"].sel(param="weight")
    # E|g_b|^2 = |G|^2 + tr Sigma / b
    assert float(noise["microbatch_grad_sq"].mean()) == pytest.approx(100 + 3600 / b, rel=0.03)
    assert float(noise["noise_scale"].median()) == pytest.approx(36, rel=0.2)


def test_noise_is_missing_without_micro_batches(tmp_path):
    model, x, y = problem()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", record={"noise"}):
        cross_entropy(model(x), y).backward()
        optimizer.step()
    assert np.isnan(gradscope.open_recording(tmp_path / "run.h5")["noise/noise_scale"]).all()
    assert not model[0].weight._backward_hooks


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

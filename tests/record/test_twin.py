"""Every recorded variable against an independent float64 twin of the same training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradscope

N_STEPS = 6
BETA1, BETA2, EPS = 0.8, 0.99, 1e-3


def make_model():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    ).double()


def batches():
    generator = torch.Generator().manual_seed(11)
    for _ in range(N_STEPS):
        x = torch.randn(7, 3, 8, 8, generator=generator, dtype=torch.float64)
        yield x, torch.randint(0, 5, (7,), generator=generator)


def train(model, path=None):
    """Train; record if there is a path. Returns the parameters after each step."""
    optimizer = torch.optim.Adam(model.parameters(), 0.01, (BETA1, BETA2), EPS, weight_decay=0.1)
    recorder = path and gradscope.Recorder(model, optimizer, path)
    history = []
    for x, y in batches():
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if recorder:
            recorder.log(loss=loss)
        history.append([p.detach().clone() for p in model.parameters()])
    if recorder:
        recorder.close()
    return history


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("twin") / "run.h5"
    train(make_model(), path)
    return gradscope.open_recording(path).load()


@pytest.fixture(scope="module")
def twin():
    """Gradients, Adam's moments by their definition, parameters, outputs: nothing of gradscope."""
    model = make_model()
    names = [name for name, _ in model.named_parameters()]
    m = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    v = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    rows = []
    for step, (x, y) in enumerate(batches(), start=1):
        outputs = [x]
        for layer in model:  # one by one; not in place, so that every output can be kept
            h = outputs[-1]
            outputs.append(torch.relu(h) if isinstance(layer, nn.ReLU) else layer(h))
        loss = nn.functional.cross_entropy(outputs[-1], y)
        params = list(model.parameters())
        grads = torch.autograd.grad(loss, params + outputs[1:])
        row: dict[str, Any] = {"loss": loss.item(), "theta": {}, "g": {}, "m": {}, "v": {}, "u": {}}
        row["y"] = [o.detach() for o in outputs[1:]]
        row["delta"] = grads[len(params) :]
        for name, p, g in zip(names, params, grads, strict=False):
            decayed = g + 0.1 * p.detach()
            m[name] = BETA1 * m[name] + (1 - BETA1) * decayed
            v[name] = BETA2 * v[name] + (1 - BETA2) * decayed**2
            m_hat, v_hat = m[name] / (1 - BETA1**step), v[name] / (1 - BETA2**step)
            u = -0.01 * m_hat / (v_hat.sqrt() + EPS)
            row["theta"][name], row["g"][name], row["u"][name] = p.detach().clone(), g, u
            row["m"][name], row["v"][name] = m[name].clone(), v[name].clone()
            row["v_hat"] = row.get("v_hat", {}) | {name: v_hat}
            row["m_hat"] = row.get("m_hat", {}) | {name: m_hat}
            with torch.no_grad():
                p += u
        rows.append(row)
    return names, rows


PARAM_FORMULAS = {
    "gradients/grad_norm": lambda r, n: r["g"][n].norm(),
    "gradients/grad_mean": lambda r, n: r["g"][n].mean(),
    "gradients/grad_abs_mean": lambda r, n: r["g"][n].abs().mean(),
    "gradients/grad_abs_max": lambda r, n: r["g"][n].abs().max(),
    "gradients/grad_kurtosis": lambda r, n: (r["g"][n] ** 4).mean() / (r["g"][n] ** 2).mean() ** 2,
    "gradients/grad_zero_fraction": lambda r, n: (r["g"][n] == 0).double().mean(),
    "gradients/grad_nonfinite": lambda r, n: torch.tensor(0.0),
    "gradients/grad_param_cosine": lambda r, n: cosine(r["g"][n], r["theta"][n]),
    "gradients/grad_rms": lambda r, n: (r["g"][n] ** 2).mean().sqrt(),
    "second_moments/exp_avg_sq_mean": lambda r, n: r["v"][n].mean(),
    "second_moments/exp_avg_sq_max": lambda r, n: r["v"][n].max(),
    "second_moments/log_exp_avg_sq_mean": lambda r, n: r["v"][n].log().mean(),
    "second_moments/log_exp_avg_sq_var": lambda r, n: r["v"][n].log().var(correction=0),
    "second_moments/exp_avg_sq_zero_fraction": lambda r, n: (r["v"][n] == 0).double().mean(),
    "second_moments/exp_avg_norm": lambda r, n: r["m"][n].norm(),
    "second_moments/signal_fraction": lambda r, n: (r["m_hat"][n] ** 2).sum() / r["v_hat"][n].sum(),
    "second_moments/epsilon_fraction": lambda r, n: (
        (0.1 * r["v_hat"][n].sqrt() <= EPS).double().mean()
    ),
    "second_moments/exp_avg_sq_hat_mean": lambda r, n: r["v_hat"][n].mean(),
    "updates/update_norm": lambda r, n: r["u"][n].norm(),
    "updates/param_norm": lambda r, n: r["theta"][n].norm(),
    "updates/update_grad_cosine": lambda r, n: cosine(r["u"][n], r["g"][n]),
    "updates/update_param_cosine": lambda r, n: cosine(r["u"][n], r["theta"][n]),
    "updates/descent": lambda r, n: -(r["u"][n] * r["g"][n]).sum(),
    "updates/update_ratio": lambda r, n: r["u"][n].norm() / r["theta"][n].norm(),
}


def cosine(a, b):
    return (a * b).sum() / (a.norm() * b.norm())


@pytest.mark.parametrize("variable", PARAM_FORMULAS)
def test_parameter_variables_equal_their_formula(recording, twin, variable):
    names, rows = twin
    data = recording[variable]
    assert sorted(data["param"].values) == sorted(names)
    assert data["step"].values.tolist() == list(range(1, N_STEPS + 1))
    for step, row in enumerate(rows, start=1):
        for name in names:
            expected = float(PARAM_FORMULAS[variable](row, name))
            got = float(data.sel(step=step, param=name))
            # weights before batch norm: g . theta is zero but for rounding; so is a dead bias
            floor = 1e-9 if "cosine" in variable or "0.bias" in name else 1e-15
            if name == "0.bias" and variable.split("_")[-1] in ("cosine", "kurtosis", "fraction"):
                continue  # ratios of rounding errors
            if name == "1.bias" and step == 1 and np.isnan(got):
                assert float(row["theta"][name].norm()) == 0  # cosine and ratio to a zero parameter
                continue
            assert got == pytest.approx(expected, rel=3e-7, abs=floor), (step, name)


LAYER_FORMULAS = {
    "output_mean": lambda y, d: y.mean(),
    "output_rms": lambda y, d: (y**2).mean().sqrt(),
    "output_abs_max": lambda y, d: y.abs().max(),
    "output_zero_fraction": lambda y, d: (y == 0).double().mean(),
    "output_numel": lambda y, d: torch.tensor(float(y.numel())),
    "output_grad_rms": lambda y, d: (d**2).mean().sqrt(),
    "output_grad_abs_max": lambda y, d: d.abs().max(),
    "output_grad_zero_fraction": lambda y, d: (d == 0).double().mean(),
}


@pytest.mark.parametrize("variable", LAYER_FORMULAS)
def test_activations_equal_their_formula_also_before_an_in_place_activation(
    recording, twin, variable
):
    _, rows = twin
    data = recording["activations"][variable]
    layers = data["layer"].values.tolist()
    assert layers == ["0", "1", "2", "4", "5", "7"]  # no pooling, no reshaping
    for step, row in enumerate(rows, start=1):
        for layer in layers:
            expected = LAYER_FORMULAS[variable](row["y"][int(layer)], row["delta"][int(layer)])
            got = float(data.sel(step=step, layer=layer))
            assert got == pytest.approx(float(expected), rel=3e-7, abs=1e-12), (step, layer)


def test_training_rows(recording, twin):
    _, rows = twin
    training = recording["training"]
    np.testing.assert_allclose(training["loss"].values, [r["loss"] for r in rows], rtol=1e-12)
    norms = [sum(float((g**2).sum()) for g in r["g"].values()) ** 0.5 for r in rows]
    np.testing.assert_allclose(training["total_grad_norm"].values, norms, rtol=3e-7)
    assert (training["batch_size"] == 7).all() and (training["n_microbatches"] == 1).all()
    assert (training["is_skipped"] == 0).all() and (training["alpha"] == 0.5).all()
    assert training["beta1"].values.tolist() == [[BETA1]] * N_STEPS


def test_coordinates(recording):
    gradients = recording["gradients"]
    by_name = {name: i for i, name in enumerate(gradients["param"].values)}

    def coordinate(name, param):
        return gradients[name].values[by_name[param]]

    assert [coordinate("depth", p) for p in ("0.weight", "1.weight", "4.weight", "7.weight")] == [
        0,
        0,
        1,
        2,
    ]
    assert [coordinate("stage", p) for p in ("0.weight", "4.weight", "7.weight")] == [0, 1, 2]
    kinds = {p: coordinate("kind", p) for p in by_name}
    assert kinds == {
        "0.weight": "weight",
        "0.bias": "dead_bias",
        "1.weight": "norm_weight",
        "1.bias": "norm_bias",
        "4.weight": "weight",
        "4.bias": "bias",
        "7.weight": "weight",
        "7.bias": "bias",
    }
    assert coordinate("fan_in", "4.weight") == 6 * 9
    assert coordinate("shape", "4.weight") == "8x6x3x3"


def test_weights_are_bit_identical_with_and_without_recording(tmp_path):
    plain, recorded = train(make_model()), train(make_model(), tmp_path / "run.h5")
    for a, b in zip(plain, recorded, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_scale_invariance_is_seen(recording):
    """A weight before batch norm is orthogonal to its gradient: <g, theta> = 0 exactly."""
    cosines = recording["gradients/grad_param_cosine"].sel(param="0.weight")
    assert np.abs(cosines.values).max() < 1e-4  # batch norm's eps leaves a trace


def test_an_in_place_activation_leaves_the_gradient_of_the_layer_before_it(tmp_path, monkeypatch):
    """Also where that layer returns a view, as torch's linear layers did up to 2.14."""
    first, last = nn.Linear(4, 5), nn.Linear(5, 3)
    model = nn.Sequential(first, nn.ReLU(inplace=True), last).double()

    def forward(x):
        return nn.functional.linear(x.flatten(0, 1), first.weight, first.bias).view(6, 2, 5)

    monkeypatch.setattr(first, "forward", forward)
    x = torch.randn(6, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    h = first(x)
    (delta,) = torch.autograd.grad(last(torch.relu(h)).square().mean(), h)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        model(x).square().mean().backward()
        optimizer.step()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    got = float(tree["activations/output_grad_rms"].sel(step=1, layer="0"))
    assert got == pytest.approx(float(delta.square().mean().sqrt()), rel=1e-6)

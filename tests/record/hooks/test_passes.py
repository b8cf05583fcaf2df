"""Which forward passes count for a step: those that a gradient came back through, and no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.convnext import LayerNorm2d

import gradscope
from gradscope.record.hooks import passes


class Autoencoder(nn.Module):
    """Its training calls two methods, never the model; frozen layers stand in front."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).requires_grad_(False)
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 6)

    def encode(self, x):
        return self.first(self.frozen(x))

    def decode(self, z):
        return self.second(torch.relu(z))

    def forward(self, x):
        return self.decode(self.encode(x))


def validate_by_parts(model, x):
    model.decode(model.encode(x))


def validate_whole(model, x):
    model(x)


def sample(model, x):
    model.decode(torch.randn(16, 4))


def drop_a_batch(model, x):
    loss = (model.decode(model.encode(x)) - x).square().mean()
    assert loss > 50  # so that no backward call follows


def look_at_the_code(model, x):
    model.encode(x).detach()


@pytest.mark.parametrize(
    "aside", [validate_by_parts, validate_whole, sample, drop_a_batch, look_at_the_code]
)
@pytest.mark.parametrize("when", ["after a step", "before the backward call"])
def test_passes_without_a_backward_call_are_no_part_of_the_next(tmp_path, aside, when):
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    names = ("frozen.0", "frozen.1", "first", "second")
    expected = []
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(4):
            x = torch.randn(4, 6)
            optimizer.zero_grad()
            if when != "after a step":
                aside(model, 100 * torch.randn(16, 6))
            code = model.encode(x)
            (model.decode(code) - x).square().mean().backward()
            hidden = model.frozen[0](x).detach()
            outputs = (hidden, model.frozen[1](hidden), code, model.second(code.detach().relu()))
            expected.append([out.detach().square().mean().sqrt().item() for out in outputs])
            optimizer.step()
            if when == "after a step":
                aside(model, 100 * torch.randn(16, 6))
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    # Frozen layers behind others that train may be part of the same pass: not known.
    known = slice(2, None) if aside is sample else slice(None)
    activations = tree["activations"].sel(layer=list(names[known]))
    np.testing.assert_allclose(activations["output_rms"], np.array(expected)[:, known], rtol=1e-5)
    assert (activations["output_numel"] == [24, 24, 16, 24][known]).all()
    assert (tree["training/batch_size"] == 4).all()


def test_two_batches_by_parts_before_one_backward_call_both_count(tmp_path):
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(3):
            optimizer.zero_grad()
            codes = [model.encode(torch.randn(4, 6)) for _ in range(2)]
            expected.append(torch.cat(codes).square().mean().sqrt().item())
            torch.cosine_similarity(*codes).mean().backward()
            optimizer.step()
    activations = gradscope.open_recording(tmp_path / "run.h5")["activations"].sel(layer="first")
    np.testing.assert_allclose(activations["output_rms"], expected, rtol=1e-5)
    assert (activations["output_numel"] == 32).all()


@pytest.mark.parametrize("by_parts", [False, True])
def test_batches_of_unlike_sizes_have_no_size_in_common(tmp_path, by_parts):
    model = Autoencoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(2):
            optimizer.zero_grad()
            batches = [torch.randn(n, 6) for n in (4, 9)]
            outs = [model.decode(model.encode(x)) if by_parts else model(x) for x in batches]
            torch.cat(outs).square().mean().backward()
            optimizer.step()
    training = gradscope.open_recording(tmp_path / "run.h5")["training"]
    assert "batch_size" not in training or np.isnan(training["batch_size"]).all()


class Late(nn.Module):
    """Its frozen layer is left out once it is known not to run, so that rows change."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2).requires_grad_(False)
        self.used = nn.Linear(3, 1)

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
def test_an_episode_counts_whole_across_the_steps_of_others(tmp_path, is_compiled):
    """The critic steps between the actor's calls and its backward call; the layers get new rows."""
    torch.manual_seed(0)
    actor = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    models = {"late": Late(), "actor": actor, "critic": nn.Linear(3, 1)}
    optimizers = {
        name: torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
        for name, model in models.items()
    }
    expected = []
    with gradscope.Recorder(models, optimizers, tmp_path / "run.h5"):
        act = torch.compile(actor, backend="eager") if is_compiled else actor
        for _ in range(3):
            y = torch.cat([act(torch.randn(1, 6)) for _ in range(30)])
            for name in ("critic", "late"):
                optimizers[name].zero_grad()
                models[name](torch.randn(4, 3)).mean().backward()
                optimizers[name].step()
            optimizers["actor"].zero_grad()
            y.square().mean().backward()
            expected.append(y.detach().square().mean().sqrt().item())
            optimizers["actor"].step()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree.attrs["status"] == "finished"
    last = tree["activations"].to_dataset().sel(layer="actor.2")
    last = last.dropna("step", subset=["output_rms"])
    np.testing.assert_allclose(last["output_rms"], expected, rtol=1e-5)
    assert (last["output_numel"] == 30).all()


def test_a_view_of_what_was_given_has_no_gradient_of_others(tmp_path):
    class View(nn.Module):
        def forward(self, *, x):
            return x.view(-1)

    first, view, last = nn.Linear(4, 3), View(), nn.Linear(3, 1)
    model = nn.ModuleList([first, view, last])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(2):
            optimizer.zero_grad()
            hidden = first(torch.randn(5, 4))
            aside = view(x=hidden).detach().sum()
            (aside + last(hidden)).mean().backward()
            optimizer.step()
    recorded = gradscope.open_recording(tmp_path / "run.h5")["activations"]["output_grad_rms"]
    assert np.isfinite(recorded.sel(layer="0")).all()
    assert np.isnan(recorded.sel(layer="1")).all()


def play(path, is_compiled):
    """One backward call through thirty calls of a policy; returns what should and does stand."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with gradscope.Recorder(model, optimizer, path):
        policy = torch.compile(model, backend="eager") if is_compiled else model
        for _ in range(2):
            optimizer.zero_grad()
            y = torch.cat([policy((k + 1) * torch.randn(1, 6)) for k in range(30)])
            y.retain_grad()
            y.square().mean().backward()
            expected.append([a.square().mean().sqrt().item() for a in (y.detach(), y.grad)])
            optimizer.step()
    recorded = gradscope.open_recording(path)["activations"].sel(layer="2")
    names = ("output_rms", "output_grad_rms", "output_numel")
    return np.array(expected), np.stack([recorded[name] for name in names], axis=1)


@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
def test_an_episode_counts_whole(tmp_path, is_compiled):
    expected, recorded = play(tmp_path / "run.h5", is_compiled)
    np.testing.assert_allclose(recorded[:, :2], expected, rtol=1e-5)
    assert (recorded[:, 2] == 30).all()


def test_an_episode_that_is_too_long_to_be_known_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "MAX_PASSES", 1)
    _, recorded = play(tmp_path / "run.h5", is_compiled=True)
    assert np.isnan(recorded[:, :2]).all()


@pytest.mark.parametrize("is_in_place", [False, True])
def test_a_view_that_is_changed_in_place_has_its_gradient(tmp_path, is_in_place):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), LayerNorm2d(4), nn.ReLU(inplace=is_in_place), nn.Conv2d(4, 2, 3)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(2):
            x = torch.randn(2, 3, 7, 7)
            normed = model[1](model[0](x)).detach().requires_grad_()
            loss = model[3](normed.relu()).square().mean()
            expected.append(torch.autograd.grad(loss, normed)[0].square().mean().sqrt().item())
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    recorded = gradscope.open_recording(tmp_path / "run.h5")["activations"].sel(layer="1")
    np.testing.assert_allclose(recorded["output_grad_rms"], expected, rtol=1e-5)

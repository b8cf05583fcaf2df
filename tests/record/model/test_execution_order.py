"""Order, depth and stage follow what really runs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import gradscope


class Turned(nn.Module):
    """Registered in another order than run."""

    def __init__(self):
        super().__init__()
        self.last, self.middle, self.first = nn.Linear(3, 1), nn.Linear(4, 3), nn.Linear(2, 4)

    def forward(self, x):
        return self.last(self.middle(self.first(x)))


def train(path, models, optimizers, loop, **options):
    with gradscope.Recorder(models, optimizers, path, **options):
        for loss in loop():
            loss.backward()
            for optimizer in optimizers.values() if isinstance(optimizers, dict) else [optimizers]:
                optimizer.step()
                optimizer.zero_grad()
    return gradscope.open_recording(path).load()


def layers(tree):
    axis = tree["activations"]
    return dict(zip(axis["layer"].values.tolist(), axis["depth"].values.tolist(), strict=True))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_step_before_any_forward(tmp_path):
    model = Turned()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop():
        optimizer.step()  # some do, to quiet a scheduler
        for _ in range(3):
            yield model(torch.randn(5, 2)).square().mean()

    tree = train(tmp_path / "run.h5", model, optimizer, loop)
    assert layers(tree) == {"first": 0, "middle": 1, "last": 2}
    norms = tree["gradients/grad_norm"].sel(param="first.weight").values
    assert np.isfinite(norms).tolist() == [False, True, True, True]
    seen = np.isfinite(tree["activations/output_rms"].sel(layer="first").values)
    assert seen[-3:].all()


def test_each_model_is_learned_at_its_own_first_pass(tmp_path):
    torch.manual_seed(0)
    nets = {"g": Turned(), "d": nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))}
    optimizers = {k: torch.optim.SGD(net.parameters(), lr=0.01) for k, net in nets.items()}
    with gradscope.Recorder(nets, optimizers, tmp_path / "run.h5"):
        for _ in range(2):
            nets["d"](torch.randn(4, 1)).square().mean().backward()
            optimizers["d"].step()
            optimizers["d"].zero_grad()
            nets["d"](nets["g"](torch.randn(4, 2))).square().mean().backward()
            optimizers["g"].step()
            optimizers["g"].zero_grad()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert layers(tree) == {"d.0": 0, "d.1": 0, "d.2": 1, "g.first": 2, "g.middle": 3, "g.last": 4}
    found = np.isfinite(tree["gradients/grad_norm"].sel(param="g.first.weight").values)
    assert found.tolist() == [False, True, False, True]


class WithCopies(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.unused = nn.Linear(7, 7)
        self.idle = nn.GELU()

    def forward(self, x):
        with torch.no_grad():
            target = self.teacher(x)
        return self.student(x) - target


def test_copies_and_what_never_runs_are_not_the_network(tmp_path):
    model = WithCopies()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tree = train(
        tmp_path / "run.h5",
        model,
        optimizer,
        lambda: (model(torch.randn(4, 3)).square().mean() for _ in range(2)),
    )
    assert layers(tree) == {"student.0": 0, "student.1": 0, "student.2": 1, "unused": 1}
    relative = tree["activations"]["relative_depth"].sel(layer="student.2")
    assert float(relative) == 1  # what never runs is no depth
    names = {name.rpartition(".")[0] for name in tree["gradients"]["param"].values}
    assert names == {"student.0", "student.2", "unused"}


def test_a_frozen_layer_that_runs_is_part_of_the_network(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    tree = train(
        tmp_path / "run.h5", model, optimizer, lambda: iter([model(torch.ones(2, 3)).mean()])
    )
    assert layers(tree) == {"0": 0, "1": 0, "2": 1}


# -- stages


def stages(tmp_path, model, x):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = lambda: iter([model(x).square().mean()])  # noqa: E731
    tree = train(tmp_path / "run.h5", model, optimizer, loss)
    axis = tree["activations"]
    return dict(zip(axis["layer"].values.tolist(), axis["stage"].values.tolist(), strict=True))


class SelfAttention(nn.Module):
    """Softmax over all pairs of positions, as its own layer."""

    def __init__(self, width):
        super().__init__()
        self.qkv, self.weights, self.out = (
            nn.Linear(width, 3 * width),
            nn.Softmax(-1),
            nn.Linear(width, width),
        )

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        pairs = (q @ k.transpose(-1, -2))[:, None]  # (N, 1, T, T)
        return self.out((self.weights(pairs) @ v[:, None])[:, 0])


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), SelfAttention(width)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, width)) for _ in range(2)
        )

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + sum(expert(x) for expert in self.experts)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 8)
        self.blocks = nn.ModuleList(Block(8) for _ in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_transformer_has_a_stage_for_each_block(tmp_path):
    found = stages(tmp_path, Tokens(), torch.randint(0, 5, (2, 6)))
    assert found["embed"] == 0 and found["head"] == 4
    for name, stage in found.items():
        if name.startswith("blocks."):
            assert stage == int(name.split(".")[1]) + 1, name


class Squeeze(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pool, self.a, self.b = (
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, 2, 1),
            nn.Conv2d(2, width, 1),
        )

    def forward(self, x):
        return x * torch.sigmoid(self.b(self.a(self.pool(x))))


def test_an_image_network_has_a_stage_for_each_resolution(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Squeeze(4),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        Squeeze(4),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    found = stages(tmp_path, model, torch.randn(2, 1, 8, 8))
    assert found == {
        "0": 0,
        "1": 0,
        "2": 0,
        "3.a": 0,
        "3.b": 0,
        "5": 1,
        "6": 1,
        "7.a": 1,
        "7.b": 1,
        "9": 2,
        "11": 3,
    }


def test_a_network_over_a_line_counts_its_length_not_its_channels(tmp_path):
    model = nn.Sequential(
        nn.Conv1d(1, 2, 3, padding=1), nn.Conv1d(2, 8, 3, padding=1), nn.Conv1d(8, 1, 4, 2, 1)
    )
    assert stages(tmp_path, model, torch.randn(2, 1, 8)) == {"0": 0, "1": 0, "2": 1}


def test_a_copy_that_is_thawed_joins_the_network(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.side = nn.Linear(3, 1), nn.Linear(3, 1).requires_grad_(False)
            self.uses_side = False

        def forward(self, x):
            return self.main(x) + (self.side(x) if self.uses_side else 0)

    torch.manual_seed(0)
    model, norms = Net(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop():
        for step in range(4):
            if step == 2:
                model.side.requires_grad_(True)
                model.uses_side = True
            yield model(torch.randn(4, 3)).square().mean()

    def note(*_):
        grad = model.side.weight.grad
        norms.append(np.nan if grad is None else float(grad.norm()))

    optimizer.register_step_pre_hook(note)
    tree = train(tmp_path / "run.h5", model, optimizer, loop)
    found = tree["gradients/grad_norm"].sel(param="side.weight").values
    np.testing.assert_allclose(found, norms, rtol=1e-5)
    assert np.isfinite(norms).tolist() == [False, False, True, True]

"""Every parameter has a row, whatever owns it: experts, bare tensors, parametrized layers."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations

import gradscope
from gradscope.derived.select import not_shown, select


class Experts(nn.Module):
    """Experts stacked in two tensors, beside a gate, as mixtures of experts hold them."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 2)
        self.w1, self.w2 = (nn.Parameter(torch.randn(2, 4, 4) / 2) for _ in range(2))

    def forward(self, x):
        share = self.gate(x).softmax(-1)
        return torch.einsum("be,bi,eij,ejk->bk", share, x, self.w1, self.w2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 4))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.extra = nn.ParameterList([nn.Parameter(torch.randn(4))])
        self.experts = Experts()
        self.head = parametrizations.weight_norm(nn.Linear(4, 2))

    def forward(self, x):
        return self.head(self.scale * self.experts(x + self.token) + self.extra[0])


def test_every_parameter_has_a_row_or_is_counted(tmp_path):
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        model(torch.randn(5, 4)).square().mean().backward()
        true = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
        optimizer.step()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    norm = tree["gradients/grad_norm"].sel(step=1)
    assert set(norm["param"].values) == set(true)
    for name, value in true.items():
        np.testing.assert_allclose(float(norm.sel(param=name)), value, rtol=1e-5, err_msg=name)
    shown = select(tree, "grad_norm")["param"].values.tolist()
    assert set(shown) == {"experts.gate.weight", "head.parametrizations.weight.original1"}
    hidden = not_shown(tree)
    assert set(hidden["other"]) == {
        "token",
        "scale",
        "extra.0",
        "experts.w1",
        "experts.w2",
        "head.parametrizations.weight.original0",
    }
    names = [name for some in hidden.values() for name in some]
    assert sorted([*shown, *names]) == sorted(true)


class Task(nn.Module):
    """A net with its loss and an average of its weights that nobody froze, as timm makes it."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)
        self.average = copy.deepcopy(self.net)
        self.spare = nn.Linear(4, 2)

    def forward(self, x):
        return {"loss": self.net(x).square().mean()}


def test_an_average_of_weights_inside_the_model_is_not_the_network(tmp_path):
    model = Task()
    trained = [*model.net.parameters(), *model.spare.parameters()]  # spare trains and never runs
    optimizer = torch.optim.SGD(trained, lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(3):
            model(torch.randn(5, 4))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                for mean, new in zip(
                    model.average.parameters(), model.net.parameters(), strict=True
                ):
                    mean.lerp_(new, 0.1)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    names = ["net.weight", "net.bias", "spare.weight", "spare.bias"]
    assert tree["gradients"]["param"].values.tolist() == names
    assert tree["activations"]["layer"].values.tolist() == ["net", "spare"]

"""Names are those of ``named_parameters()``, whatever modules are called."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.record.model.layers import LayerTable
from gradscope.record.model.wrappers import class_name, named_modules, unwrap_module

STRANGE = [
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "0",
    "007",
    "größe",
    "x" * 80,
    "a b",
    "層",
]


def record(path, model, *, forward=None, optimizer=None, n_steps=2, **options):
    """Train on the sum of squares; returns the recording and the true norms of each step."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    forward = forward or (lambda: model(torch.randn(5, 4)))
    norms = []
    with gradscope.Recorder(model, optimizer, path, **options):
        for _ in range(n_steps):
            forward().square().mean().backward()
            norms.append({n: float(p.grad.norm()) for n, p in model.named_parameters()})
            optimizer.step()
            optimizer.zero_grad()
    return gradscope.open_recording(path).load(), norms


@pytest.mark.parametrize("name", STRANGE)
def test_a_submodule_of_any_name(tmp_path, name):
    model = nn.Sequential()
    inner = nn.Sequential()
    inner.add_module(name, nn.Linear(4, 4))
    model.add_module(name, inner)
    model.add_module("end", nn.Linear(4, 2))
    tree, norms = record(tmp_path / "run.h5", model)
    assert tree["gradients"]["param"].values.tolist() == list(norms[0])
    for step, true in enumerate(norms, 1):
        found = tree["gradients/grad_norm"].sel(step=step).values
        np.testing.assert_allclose(found, list(true.values()), rtol=1e-5)
    layers = tree["activations"]["layer"].values.tolist()
    assert layers == [f"{name}.{name}", "end"]


class Own(nn.Module):
    """A wrapper of a user's own keeps its name; torch's inside it does not."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda m: torch.compile(m, backend="eager"),
        lambda m: nn.DataParallel(torch.compile(m, backend="eager")),
    ],
)
def test_wrappers_of_torch_are_left_out_by_their_type(wrap):
    inner = nn.Sequential(Own(nn.Linear(4, 4)), nn.Tanh())
    expected = [(name, module) for name, module in inner.named_modules()]
    wrapped = wrap(inner)
    found = [pair for pair in named_modules(wrapped) if pair[1] is not wrapped]
    assert [pair for pair in found if pair in expected] == expected
    assert unwrap_module(wrapped) is inner and class_name(wrapped) == "Sequential"
    assert class_name(Own(wrapped)) == "Own"


def test_checkpoint_wrappers_are_left_out():
    wrapper = pytest.importorskip("torch.distributed.algorithms._checkpoint.checkpoint_wrapper")
    model = nn.Sequential(wrapper.checkpoint_wrapper(nn.Linear(2, 2)), nn.Linear(2, 1))
    names = [layer.name for layer in LayerTable({"": model}).layers.values()]
    assert names == ["0", "1"]


def test_a_module_that_holds_its_parent_ends():
    child, parent = Own(nn.Linear(2, 2)), nn.Module()
    parent.child = child
    child.above = parent
    assert [name for name, _ in named_modules(parent)] == ["", "child", "child.module"]


def test_nets_in_a_list_and_in_one_module(tmp_path):
    nets = [nn.Linear(4, 3), nn.Linear(3, 2)]
    optimizer = torch.optim.SGD([p for net in nets for p in net.parameters()], lr=0.1)
    model = nn.ModuleList(nets)
    tree, norms = record(
        tmp_path / "run.h5", model, forward=lambda: nets[1](nets[0](torch.randn(5, 4)))
    )
    assert tree["gradients"]["param"].values.tolist() == list(norms[0])
    with gradscope.Recorder(nets, optimizer, tmp_path / "list.h5"):
        nets[1](nets[0](torch.randn(5, 4))).square().mean().backward()
        norms = [float(p.grad.norm()) for net in nets for p in net.parameters()]
        optimizer.step()
    found = gradscope.open_recording(tmp_path / "list.h5")["gradients/grad_norm"]
    assert found["param"].values.tolist() == ["0.weight", "0.bias", "1.weight", "1.bias"]
    np.testing.assert_allclose(found.values[0], norms, rtol=1e-5)


def test_a_replaced_module_begins_a_row_of_its_own(tmp_path):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = []
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", include="weight$"):
        for step in range(9):
            if step in (3, 6):
                model[2] = nn.Linear(6, 2 + step)
                optimizer.add_param_group({"params": list(model[2].parameters())})
            model(torch.randn(5, 4)).square().mean().backward()
            rows.append([float(model[i].weight.grad.norm()) for i in (0, 2)])
            optimizer.step()
            optimizer.zero_grad()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    norm = tree["gradients/grad_norm"]
    assert sorted(norm["param"].values.tolist()) == [
        "0.weight",
        "2.weight",
        "2.weight~2",
        "2.weight~3",
    ]
    expected = np.full((9, 4), np.nan)
    expected[:, 0] = [a for a, _ in rows]
    for i in range(3):
        expected[3 * i : 3 * i + 3, i + 1] = [b for _, b in rows[3 * i : 3 * i + 3]]
    labels = ["0.weight", "2.weight", "2.weight~2", "2.weight~3"]
    np.testing.assert_allclose(norm.sel(param=labels), expected, rtol=1e-5)
    assert norm["numel"].sel(param=labels).values.tolist() == [24, 12, 30, 48]
    assert set(tree["activations"]["layer"].values) == {"0", "1", "2", "2~2", "2~3"}


def test_weights_behind_parametrizations_are_weights(tmp_path):
    torch.manual_seed(0)
    plain = nn.Linear(4, 3)
    normed = nn.utils.parametrizations.weight_norm(copy.deepcopy(plain))
    orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(3, 3))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2, bias=False))
    model = nn.Sequential(normed, orthogonal, spectral)
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    recorder = gradscope.Recorder(
        model, torch.optim.SGD(model.parameters(), lr=0.1), tmp_path / "unused.h5"
    )
    recorder.close()
    for name, buffer in model.named_buffers():  # to look at a weight would change these
        assert torch.equal(buffer, buffers[name]), name
    tree, norms = record(tmp_path / "run.h5", model)
    axis = tree["gradients"]
    assert sorted(axis["param"].values.tolist()) == sorted(norms[0])
    kinds = dict(zip(axis["param"].values.tolist(), axis["kind"].values.tolist(), strict=True))
    assert kinds == {
        "0.bias": "bias",
        "0.parametrizations.weight.original0": "other",  # its length
        "0.parametrizations.weight.original1": "weight",
        "1.bias": "bias",
        "1.parametrizations.weight.original": "weight",
        "2.parametrizations.weight.original": "weight",
    }
    assert set(axis["layer"].values) == {"0", "1", "2"}
    assert tree["activations"]["layer"].values.tolist() == ["0", "1", "2"]
    fan_in = axis["fan_in"].sel(param="0.parametrizations.weight.original1")
    assert int(fan_in) == 4 and axis["depth"].max() == 2


def test_a_replaced_parameter_of_no_module_begins_a_row_of_its_own(tmp_path):
    """As points that are fitted to images, when more of them are put in."""
    few, many, other = (nn.Parameter(torch.ones(n)) for n in (10, 40, 5))
    optimizer = torch.optim.SGD([few, other], lr=0.1)
    params = optimizer.param_groups[0]["params"]
    with gradscope.Recorder(nn.Module(), optimizer, tmp_path / "run.h5"):
        for k in range(5):
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()
            if k == 1:
                params[0] = many
            if k == 3:
                params.reverse()  # another place is no other parameter
    norms = gradscope.open_recording(tmp_path / "run.h5")["gradients/grad_norm"].load()
    names = ["param_groups.0.0", "param_groups.0.0~2", "param_groups.0.1"]
    norms = norms.sel(param=names)
    assert norms["numel"].values.tolist() == [10, 40, 5]
    rms = (norms**2 / norms["numel"]) ** 0.5
    nan = np.nan
    expected = [[1, nan, 1], [1, nan, 1], [nan, 1, 1], [nan, 1, 1], [nan, 1, 1]]
    np.testing.assert_allclose(rms, expected, rtol=1e-6)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_parameter_that_moves_to_another_group_is_of_none(tmp_path, swapped):
    model = nn.Linear(4, 2)
    extra = nn.Linear(4, 2)
    net = nn.ModuleList([model, extra])
    groups = [{"params": [model.weight, extra.weight], "lr": 0.1}]
    optimizer = torch.optim.SGD([*groups, {"params": [model.bias, extra.bias], "lr": 1e-5}])

    def forward():
        return model(torch.randn(3, 4)) + extra(torch.randn(3, 4))

    with gradscope.Recorder(net, optimizer, tmp_path / "run.h5"):
        for k in range(4):
            optimizer.zero_grad()
            forward().square().mean().backward()
            optimizer.step()
            if k == 1:
                fast, slow = (group["params"] for group in optimizer.param_groups)
                fast.append(slow.pop(0))
                if swapped:
                    slow.insert(0, fast.pop(0))
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    group = tree["gradients"]["param_group"].to_series()
    weight = -1 if swapped else 0
    assert group.to_dict() == {"0.weight": weight, "0.bias": -1, "1.weight": 0, "1.bias": 1}
    lr = tree["updates/update_norm"] / tree["gradients/grad_norm"]
    np.testing.assert_allclose(lr.sel(param="0.bias"), [1e-5, 1e-5, 0.1, 0.1], rtol=1e-2)

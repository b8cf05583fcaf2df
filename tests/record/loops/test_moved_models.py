"""Models whose tensors get another dtype, device or shape while they are recorded."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import gradscope
from tests.record.loops.training_loops import data, mlp, run


def as_double(model):
    model.double()


def as_bfloat16(model):
    model.to(torch.bfloat16)


def by_way_of_meta(model):
    state = copy.deepcopy(model.state_dict())
    model.to("meta").to_empty(device="cpu").load_state_dict(state)


@pytest.mark.parametrize("move", [as_double, as_bfloat16, by_way_of_meta])
@pytest.mark.parametrize("at", [1, 3])
def test_a_model_that_moves_after_the_recorder_was_attached(tmp_path, move, at):
    """Gradients and updates are those of the tensors that the optimizer steps now."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data()
    expected = []

    def step(k, recorder):
        if k == at:
            move(model)
            optimizer.param_groups[0]["params"] = list(model.parameters())
        optimizer.zero_grad()
        cross_entropy(model(x.to(model[0].weight.dtype)).float(), y).backward()
        before = model[2].weight.detach().double().clone()
        grad = model[2].weight.grad.double()
        optimizer.step()
        update = model[2].weight.detach().double() - before
        expected.append((grad.norm(), update.norm(), before.norm()))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parameters change between two steps")  # rounded
        tree = run(model, optimizer, tmp_path, step, 4)
    assert tree.attrs["status"] == "finished"
    names = [n for n in tree["gradients"]["param"].values.tolist() if n.startswith("2.weight")]
    for name, column in zip(
        ("grad_norm", "update_norm", "param_norm"), zip(*expected, strict=True), strict=True
    ):
        group = "gradients" if name == "grad_norm" else "updates"
        got = tree[group][name].sel(param=names).max("param").values  # a new tensor, a new row
        np.testing.assert_allclose(got, column, rtol=1e-5, err_msg=name)


def test_a_parameter_that_is_cut_to_another_shape_begins_a_new_row(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data()
    expected = []

    def step(k, recorder):
        optimizer.zero_grad()
        if k == 3:
            for p in (model[0].weight, model[0].bias):
                p.data = p.data[:5]
            model[2].weight.data = model[2].weight.data[:, :5]
        cross_entropy(model(x), y).backward()
        expected.append(0.1 * float(model[0].weight.grad.norm()))
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, 4)
    got = tree["updates/update_norm"]
    np.testing.assert_allclose(got.sel(param="0.weight")[:2], expected[:2], rtol=1e-5)
    np.testing.assert_allclose(got.sel(param="0.weight~2")[2:], expected[2:], rtol=1e-5)
    numel = tree["updates"]["numel"].sel(param=["0.weight", "0.weight~2"]).values.tolist()
    assert numel == [12 * 6, 5 * 6]


def swap(model):
    model.double().float().load_state_dict(copy.deepcopy(model.state_dict()))


@pytest.mark.parametrize("closed", [False, True], ids=["recording", "closed"])
def test_parameters_that_torch_swaps(tmp_path, monkeypatch, closed):
    """As when a sharded model moves: torch swaps no tensor that is referenced weakly."""
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data()
    norms = []
    recorder = gradscope.Recorder(
        model, optimizer, tmp_path / "run.h5", record=["gradients", "noise"]
    )
    for k in range(4):
        optimizer.zero_grad()
        for half in (slice(0, 4), slice(4, 8)):
            cross_entropy(model(x[half]), y[half]).backward()
        norms.append([float(p.grad.norm()) for p in model.parameters()])
        optimizer.step()
        if k == 1 and not closed:
            swap(model)
    recorder.close()
    swap(model)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["gradients"]["param"].values.tolist() == [n for n, _ in model.named_parameters()]
    np.testing.assert_allclose(tree["gradients/grad_norm"], norms, rtol=1e-5)
    squares = tree["noise/microbatch_grad_sq"]
    n_known = 4 if closed else 2  # torch drops the hooks of what it swaps
    assert (squares[1:n_known] > 0).all() and squares[n_known:].isnull().all()

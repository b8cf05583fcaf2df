"""Export while a recorder is attached: the graph holds nothing of ours, the recording is whole."""

from __future__ import annotations

import copy
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import gradscope


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


def with_export(model, x, folder):
    """A program of ``torch.export`` and its operators."""
    program = torch.export.export(model, (x,))
    return str(program.graph), program.module()(x)


def with_onnx(model, x, folder, *, is_legacy=False):
    """Operators of an ONNX file with their inputs and outputs, and the names of its weights."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    if not is_legacy:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    torch.onnx.export(model, (x,), str(folder / "net.onnx"), dynamo=not is_legacy)
    graph = onnx.load(str(folder / "net.onnx")).graph
    nodes = [(node.op_type, [*node.input], [*node.output]) for node in graph.node]
    return str([*nodes, *(weight.name for weight in graph.initializer)]), None


def with_legacy_onnx(model, x, folder):
    return with_onnx(model, x, folder, is_legacy=True)


def with_add_graph(model, x, folder):
    board = pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    with board.SummaryWriter(str(folder / "board")) as writer:
        writer.add_graph(model, x)
    return "".join(f.read_bytes().decode("latin1") for f in (folder / "board").iterdir()), None


def with_trace(model, x, folder):
    traced = torch.jit.trace(model, x)
    return re.sub(r"_mangle_\d+", "", str(traced.inlined_graph)), traced(x)


def train(path, act):
    """Train, and act within step 2 and right after step 3; returns the recording and results."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    results = []

    def act_on(x):
        true = copy.deepcopy(model)(x).detach()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of exporters, about each other
            results.append((*act(model, x, path.parent), true))

    with gradscope.Recorder(model, optimizer, path):
        for step in (1, 2, 3, 4):
            optimizer.zero_grad()
            x = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
            loss = model(x).square().mean()
            if act is not None and step == 2:
                act_on(x)
            loss.backward()
            optimizer.step()
            if act is not None and step == 3:
                act_on(x)
    return gradscope.open_recording(path).load(), results


@pytest.mark.parametrize(
    "act", [with_export, with_onnx, with_legacy_onnx, with_add_graph, with_trace]
)
def test_what_is_exported_knows_nothing_of_us(tmp_path, act):
    tree, results = train(tmp_path / "run.h5", act)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare, _ = act(net(), torch.randn(6, 4), tmp_path)
    for graph, output, true in results:
        assert graph and "gradscope/record" not in graph and "gradscope.record" not in graph
        assert "_tap" not in graph
        assert graph == bare or act is with_add_graph  # an event file tells the time
        assert output is None or torch.equal(output, true)
    plain, _ = train(tmp_path / "plain.h5", None)
    for group in ("gradients", "second_moments", "updates", "activations"):
        for name, values in plain[group].data_vars.items():
            np.testing.assert_array_equal(tree[group][name].values, values.values, err_msg=name)
    assert tree["training/batch_size"].values.tolist() == [6] * 4


class Table(nn.Module):
    """A model that returns its parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self):
        return self.weight


def test_a_model_that_returns_its_parameter_grows_no_hooks(tmp_path):
    model = nn.ModuleDict({"table": Table()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(5):
            optimizer.zero_grad()
            model["table"]().square().sum().backward()
            optimizer.step()
            assert not model["table"].weight._backward_hooks
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    # theta_k = 0.8^k, so g = 2 * 0.8^k in each of three entries
    expected = [2 * 0.8**k * 3**0.5 for k in range(5)]
    np.testing.assert_allclose(tree["gradients/grad_norm"].values[:, 0], expected, rtol=1e-5)

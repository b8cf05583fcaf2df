"""`torch.compile` of the model and of the step: everything is recorded, the graph stays whole."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.nn.functional import cross_entropy

import gradscope

N_STEPS = 4


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    counters.clear()
    with warnings.catch_warnings():
        # torch's own while it traces
        warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield
    torch.compiler.reset()


class Block(nn.Module):
    """In-place activation, a module with a tuple as output, a layer used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.act = nn.ReLU(inplace=True)
        self.attention = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
        self.twice = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        h = self.act(self.first(x))
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.head(self.twice(torch.tanh(self.twice(h))).mean(dim=1))


def make():
    torch.manual_seed(0)
    model = Block()
    return model, torch.optim.Adam(model.parameters(), 0.01)


def data():
    g = torch.Generator().manual_seed(1)
    return torch.randn(16, 5, 6, generator=g), torch.randint(0, 4, (16,), generator=g)


def train(call, optimizer, recorder, wrap=lambda step: step, n_steps=N_STEPS):
    x, y = data()

    def step():
        optimizer.zero_grad()
        loss = cross_entropy(call(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = wrap(step)
    for _ in range(n_steps):
        loss = step()
        if recorder:
            recorder.log(loss=loss)


def record(folder, kind, backend="aot_eager", **options):
    model, optimizer = make()
    path = folder / f"{kind}.h5"
    if kind == "given compiled":
        call = torch.compile(model, backend=backend)
        recorder = gradscope.Recorder(call, optimizer, path, **options)
    else:
        call = model
        recorder = gradscope.Recorder(model, optimizer, path, **options)
        if kind == "compiled after":
            call = torch.compile(model, backend=backend)
        elif kind == "compiled in place":
            model.compile(backend=backend)
    wrap = (lambda f: torch.compile(f, backend=backend)) if kind == "step" else (lambda f: f)
    with recorder:
        train(call, optimizer, recorder, wrap)
    return gradscope.open_recording(path).load(), [p.detach() for p in model.parameters()]


def assert_equal(tree, expected):
    assert set(tree.children) == set(expected.children)
    for group in expected.children:
        for name, values in expected[group].data_vars.items():
            if name in ("wall_time", "record_time") or "histogram" in name:
                continue
            got = tree[group][name]
            for dim in ("param", "layer"):
                if dim in values.dims:
                    got = got.sel({dim: values.coords[dim]})
            np.testing.assert_allclose(got.values, values.values, 2e-3, 1e-6, err_msg=name)


KINDS = ["compiled after", "compiled in place", "given compiled", "step"]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_recorded_as_without_a_compiler(tmp_path, kind):
    expected, _ = record(tmp_path, "eager")
    tree, _ = record(tmp_path, kind)
    assert_equal(tree, expected)
    assert tree.attrs["model_name"] == "Block"
    layers = tree["activations"]["layer"].values.tolist()
    assert layers == expected["activations"]["layer"].values.tolist()
    if kind != "step":  # a compiled step is broken by torch itself, at backward and zero_grad
        assert not counters["graph_break"]
        assert counters["stats"]["unique_graphs"] == 1


def test_a_compiled_step_gets_no_further_graphs(tmp_path):
    model, optimizer = make()
    train(model, optimizer, None, lambda f: torch.compile(f, backend="aot_eager"))
    bare = counters["stats"]["unique_graphs"]
    torch.compiler.reset()
    counters.clear()
    record(tmp_path, "step", record={"gradients", "updates", "second_moments"})
    assert counters["stats"]["unique_graphs"] == bare


def test_a_compiled_backend_of_c(tmp_path):
    expected, _ = record(tmp_path, "eager")
    tree, _ = record(tmp_path, "compiled after", backend="inductor")
    assert_equal(tree, expected)
    assert not counters["graph_break"]


def test_steps_that_are_not_measured_run_the_bare_graph(tmp_path):
    model, optimizer = make()
    graphs = []

    def backend(graph, example_inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes])
        return graph.forward

    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", every=2) as recorder:
        train(torch.compile(model, backend=backend), optimizer, recorder, n_steps=6)
    tapped = [sum("gradscope.tap" in target for target in graph) for graph in graphs]
    assert tapped == [6, 0]  # five layers, one of them twice; compiled once each
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["activations"]["step"].values.tolist() == [1, 3, 5]
    assert np.isfinite(
        tree["activations/output_grad_rms"].sel(layer=["first", "twice", "head"])
    ).all()
    assert np.isfinite(tree["training/loss"]).all()


def test_without_signals_the_weights_and_the_graph_are_those_of_a_bare_run(tmp_path):
    model, optimizer = make()
    train(torch.compile(model, backend="aot_eager"), optimizer, None)
    bare, calls = [p.detach().clone() for p in model.parameters()], dict(counters["stats"])
    torch.compiler.reset()
    counters.clear()
    _, recorded = record(tmp_path, "compiled after", record={"gradients", "updates"})
    assert all(torch.equal(a, b) for a, b in zip(bare, recorded, strict=True))
    assert counters["stats"]["unique_graphs"] == calls["unique_graphs"]
    assert not counters["graph_break"]


def test_evaluation_with_gradients_does_not_mix_in(tmp_path):
    model, optimizer = make()
    x, y = data()
    call = torch.compile(model, backend="aot_eager")
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            loss = cross_entropy(call(x), y)
            call(x * 100)  # with gradients, but nothing flows back
            with torch.no_grad():
                call(x * 1000)
            loss.backward()
            optimizer.step()
            recorder.log(loss=loss)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert float(tree["activations/output_abs_max"].max()) < 10
    assert (tree["training/n_microbatches"] == 1).all()
    assert (tree["training/batch_size"] == 16).all()


@pytest.mark.parametrize("where", ["plain", "inner", "outer", "reset"])
def test_the_filters_of_warnings_are_those_of_before(tmp_path, where):
    model, optimizer = make()
    message = r"Using `torch\.compile\(module\)` when there are global hooks"
    warnings.filterwarnings("ignore", message, UserWarning)  # the user's own, of the same text
    warnings.filterwarnings("error", "nothing like it")
    before = list(warnings.filters)
    if where == "inner":  # attached within, closed outside
        with warnings.catch_warnings():
            recorder = gradscope.Recorder(model, optimizer, tmp_path / "run.h5")
        recorder.close()
    else:
        recorder = gradscope.Recorder(model, optimizer, tmp_path / "run.h5")
        if where == "outer":
            with warnings.catch_warnings():
                recorder.close()
        elif where == "reset":
            warnings.resetwarnings()
            recorder.close()
            before = []
        else:
            recorder.close()
    assert list(warnings.filters) == before


class Rows(nn.Module):
    """A layer on the rows of what comes, by whatever name."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x, other=None, shape=(-1, 2)):
        return {"rows": self.fc(x).reshape(shape)}


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, [6, 6, 3, 5]),
        ({"other": 9}, [-1] * 4),  # rows of another number
        ({"shape": (-1,)}, [-1] * 4),
    ],
    ids=["rows", "other rows", "other outputs"],
)
def test_the_batch_size_of_a_compiled_model_is_that_of_the_eager_one(tmp_path, kwargs, expected):
    """No graph breaks, and a length that the user marks as open stays open."""
    found = {}
    for kind in ("eager", "compiled"):
        model = Rows()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with gradscope.Recorder(model, optimizer, tmp_path / f"{kind}.h5"):
            call = (
                model if kind == "eager" else torch.compile(model, backend="eager", fullgraph=True)
            )
            for n in (6, 6, 3, 5):
                given = dict(kwargs)
                if "other" in given:
                    given["other"] = torch.randn(given["other"], 4)
                x = torch.randn(n, 4)
                torch._dynamo.mark_dynamic(x, 0)
                call(x=x, **given)["rows"].square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        tree = gradscope.open_recording(tmp_path / f"{kind}.h5")
        size = tree["training"].get("batch_size")
        sizes = [-1] * 4 if size is None else size.fillna(-1).values.tolist()
        found[kind] = sizes, tree.attrs["batch_size_source"]
    assert found["compiled"] == found["eager"]
    assert found["eager"][0] == expected
    assert counters["frames"]["total"] <= 2

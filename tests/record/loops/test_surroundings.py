"""What a program sets for all of its code, or does with its objects, while it records."""

from __future__ import annotations

import ast
import copy
import pickle
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import gradscope
from tests.record.loops.training_loops import assert_norms, mlp, norms, run

FACTORIES = {"zeros", "ones", "empty", "full", "tensor", "as_tensor", "arange", "randint", "eye"}


class Scaler(torch.amp.GradScaler):
    """A class that inherits its ``step``."""


def train(model, optimizer, tmp_path, x, **options):
    """Three plain steps, against the norms of their gradients."""
    true = {}

    def step(k, recorder):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        true[k] = norms(model)
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, **options)
    assert tree.attrs["status"] == "finished"
    for k in true:
        assert_norms(tree, true[k], k)
    return tree


def test_a_default_device_other_than_the_models(tmp_path):
    model, x = mlp(), torch.randn(5, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with torch.device("meta"):
        train(model, optimizer, tmp_path, x, record="full")


def test_every_tensor_of_the_recorder_names_its_device():
    for path in Path(gradscope.__file__).parent.joinpath("record").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            is_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            if is_torch and node.func.attr in FACTORIES:
                place = f"{path.name}:{node.lineno}"
                assert any(word.arg == "device" for word in node.keywords), place


def test_a_flush_within_inference_mode(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())

    def step(k, recorder):
        optimizer.zero_grad()
        model(torch.randn(5, 6)).square().mean().backward()
        optimizer.step()
        with torch.inference_mode():
            recorder.log(val_loss=model(torch.randn(5, 6)).mean())
            recorder.flush()

    tree = run(model, optimizer, tmp_path, step)
    assert tree["training"].sizes["step"] == tree["evaluation"].sizes["step"] == 3


def test_several_threads_call_the_model(tmp_path):
    model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(8)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    true = {}

    def step(k, recorder):
        optimizer.zero_grad()
        found = {}
        inputs = [torch.randn(5, 6) for _ in range(4)]
        threads = [
            threading.Thread(target=lambda i=i: found.update({i: model(inputs[i])}))
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.cat([found[i] for i in range(4)]).square().mean().backward()
        true[k] = norms(model)
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    assert tree.attrs["status"] == "finished"
    for k in true:
        assert_norms(tree, true[k], k)
    assert (tree["activations/output_numel"].sel(layer="7") == 4 * 5 * 6).all()


def test_a_grad_scaler_is_copied_and_pickled_while_it_is_watched(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scalers = [Scaler("cpu", init_scale=4.0), torch.amp.GradScaler("cpu", init_scale=8.0)]
    own = torch.amp.GradScaler.step
    for i, scaler in enumerate(scalers):
        copies = []

        def step(k, recorder, scaler=scaler, copies=copies):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(5, 6)).square().mean()).backward()
            copies.extend([copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))])  # noqa: S301
            scaler.step(optimizer)
            scaler.update()

        folder = tmp_path / str(i)
        tree = run(model, optimizer, folder, step, grad_scaler=scaler)
        assert tree["training/loss_scale"].values.tolist() == [scaler.get_scale()] * 3
        assert "step" not in scaler.__dict__ and vars(torch.amp.GradScaler)["step"] is own
        assert all(type(c) is type(scaler) and c.get_scale() == scaler.get_scale() for c in copies)
    assert "step" not in vars(Scaler)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_scripted_model_is_recorded_without_its_layers(tmp_path):
    model = torch.jit.script(mlp())
    optimizer = torch.optim.Adam(model.parameters())
    tree = train(model, optimizer, tmp_path, torch.randn(5, 6))
    assert sorted(tree["gradients"]["param"].values) == sorted(norms(model))

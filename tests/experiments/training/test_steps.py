"""Captured steps: on the CPU through a stand-in for the graph, on a GPU through a real one."""

import copy

import numpy as np
import pytest
import torch

import gradscope
from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.training.environment import numerics
from gradscope.experiments.training.loop import Observers, train
from gradscope.experiments.training.processes import Processes
from gradscope.experiments.training.setup import build_experiment
from gradscope.experiments.training.steps import WARM_UP_STEPS, GraphedStep, take_step
from gradscope.native import cuda_graphs

TINY = Config(
    dataset="synthetic",
    n_classes=2,
    samples_per_class=40,
    batch_size=8,
    model="plain",
    units=8,
    depth=2,
    steps=9,
    lr=0.01,
    lr_schedule="cosine",
    augment=True,
    clip_grad_norm=1.0,
    device="cpu",
)
TIMES = ("wall_time", "record_time")


class StandIn:
    """A graph that does at each replay what was captured, and undoes what capturing it did.

    Numbers that the captured function reads are frozen as a graph would freeze them.
    """

    def __init__(self, experiment, monkeypatch):
        self.experiment, self.monkeypatch, self.calls = experiment, monkeypatch, []

    def warm_up(self, function):
        self.calls.append("warm_up")
        return function()

    def capture(self, function):
        self.calls.append("capture")
        self.function = function
        kept = [copy.deepcopy(self._state())]
        self.loss = self._as_captured()
        self.experiment.model.load_state_dict(kept[0]["model"])
        for p, state in zip(self.experiment.model.parameters(), kept[0]["moments"], strict=True):
            for name, value in state.items():
                self.experiment.optimizer.state[p][name].copy_(value)
        self.frozen = self._numbers()
        return self.loss

    def replay(self):
        self.calls.append("replay")
        assert self._numbers() == self.frozen
        self.loss.copy_(self._as_captured())

    def _as_captured(self):
        with self.monkeypatch.context() as capture:
            capture.setattr(cuda_graphs, "is_capturing", lambda: True)
            return self.function()

    def _state(self):
        optimizer = self.experiment.optimizer
        moments = [optimizer.state[p] for p in self.experiment.model.parameters()]
        return {"model": self.experiment.model.state_dict(), "moments": moments}

    def _numbers(self):
        """All options of the optimizer that are no tensors."""
        groups = self.experiment.optimizer.param_groups
        return [
            {k: v for k, v in g.items() if k != "params" and not isinstance(v, torch.Tensor)}
            for g in groups
        ]


def train_by_hand(path, monkeypatch, *, is_graphed):
    """Nine recorded steps; returns losses, weights, recording and the stand-in's calls."""
    with numerics(seed=0, deterministic=False):
        experiment = build_experiment(TINY)
    for group in experiment.optimizer.param_groups:
        group["capturable"] = True
    experiment.model.train()
    graph, losses = StandIn(experiment, monkeypatch), []
    with gradscope.Recorder(experiment.model, experiment.optimizer, path, every=2) as recorder:
        graphed = GraphedStep(experiment, recorder.advance, graph) if is_graphed else None
        for step in range(1, TINY.steps + 1):
            loss = graphed(step) if graphed else take_step(experiment, step)
            recorder.log(loss=loss)
            losses.append(loss.item())
    return losses, experiment.model.state_dict(), gradscope.open_recording(path), graph.calls


def assert_same_recording(one, other, rtol):
    for group in ("training", "gradients", "second_moments", "updates", "activations"):
        assert set(one[group].data_vars) == set(other[group].data_vars)
        for name in set(one[group].data_vars) - set(TIMES):
            np.testing.assert_allclose(
                one[group][name], other[group][name], rtol=rtol, atol=2e-6, err_msg=name
            )


def test_a_graphed_training_is_the_eager_one(tmp_path, monkeypatch):
    losses, weights, recording, calls = train_by_hand(
        tmp_path / "graph.h5", monkeypatch, is_graphed=True
    )
    n_replays = TINY.steps - WARM_UP_STEPS
    assert calls == ["warm_up"] * WARM_UP_STEPS + ["capture"] + ["replay"] * n_replays
    expected, eager_weights, eager, _ = train_by_hand(
        tmp_path / "eager.h5", monkeypatch, is_graphed=False
    )
    assert losses == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(weights, eager_weights, rtol=1e-5, atol=1e-6)
    assert recording["training"]["step"].values.tolist() == list(range(1, TINY.steps + 1))
    assert_same_recording(recording, eager, rtol=2e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "`cuda_graph` needs a CUDA device"),
        ({"device": "cuda", "compile": True}, "`compile` exclude each other"),
        ({"device": "cuda", "amp": "fp16"}, "cannot scale losses; use `amp` bf16"),
        ({"device": "cuda", "graft": "global"}, "needs `scope` element and `graft` none"),
    ],
)
def test_what_cannot_be_captured_is_refused(monkeypatch, changes, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UsageError, match=message):
        build_experiment(TINY.replace(cuda_graph=True, **changes))


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = TINY.replace(cuda_graph=True, device="cuda")
    with pytest.raises(UsageError, match="is for one process; there are 2"):
        build_experiment(config, Processes(0, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_on_the_device_trains_as_eager_steps_do(tmp_path):
    trees, weights = [], []
    for is_graphed in (True, False):
        built, path = [], tmp_path / f"{is_graphed}.h5"
        config = TINY.replace(device="cuda", cuda_graph=is_graphed, steps=12)
        train(config, path, observers=Observers(on_start=built.append))
        weights.append(built[0].model.state_dict())
        trees.append(gradscope.open_recording(path))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)
    assert_same_recording(trees[0], trees[1], rtol=1e-3)

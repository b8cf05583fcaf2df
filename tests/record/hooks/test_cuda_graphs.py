"""Captured steps: on the CPU the rule of the rows, on a GPU a real CUDA graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.native import cuda_graphs


def one_step(model, optimizer, x):
    optimizer.zero_grad(set_to_none=False)
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    return loss


def test_rows_of_a_captured_step_belong_to_its_replays(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(8, 4)
    optimizer = torch.optim.Adam(model.parameters())
    path = tmp_path / "run.h5"
    with gradscope.Recorder(model, optimizer, path, every=2) as recorder:
        with pytest.raises(gradscope.errors.UsageError, match="no such step was captured"):
            recorder.advance()
        for _ in range(3):
            one_step(model, optimizer, x)
        with monkeypatch.context() as capture:
            capture.setattr(cuda_graphs, "is_capturing", lambda: True)
            one_step(model, optimizer, x)
        assert recorder.step == 3  # capturing is not doing
        fixed = recorder._events._pipeline.captured
        for replay in range(4):
            fixed["params"][:, 2] = float(replay + 1) ** 2  # as the graph's kernels would
            fixed["layers"][:, 1] = 5.0 * fixed["layers"][:, 5]
            recorder.advance()
            recorder.log(loss=10.0 * replay)
    tree = gradscope.open_recording(path).load()
    assert tree["training"]["step"].values.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert tree["training/loss"].values[3:].tolist() == [0, 10, 20, 30]
    norms = tree["gradients/grad_norm"]
    assert norms["step"].values.tolist() == [1, 3, 5, 7]
    assert norms.sel(step=[5, 7]).values.tolist() == [[2.0, 2.0], [4.0, 4.0]]
    assert tree["activations/output_rms"].sel(step=7).values == pytest.approx([5**0.5] * 2)


def test_a_step_does_not_ask_the_driver(tmp_path, monkeypatch):
    """Lightning makes torch open a library at each such question."""
    asked = []
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5", record="full") as recorder:
        one_step(model, optimizer, x)
        for name in ("is_available", "device_count"):
            monkeypatch.setattr(torch.cuda, name, lambda name=name: asked.append(name))
        for _ in range(3):
            recorder.log(loss=one_step(model, optimizer, x))
        recorder.flush()
        monkeypatch.undo()
    assert asked == []


def test_clipping_in_a_captured_step_is_that_of_each_replay(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model, x = nn.Linear(4, 4), torch.randn(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def clipped_step():
        optimizer.zero_grad(set_to_none=False)
        model(x).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()

    path = tmp_path / "run.h5"
    with gradscope.Recorder(model, optimizer, path) as recorder:
        clipped_step()
        with monkeypatch.context() as capture:
            capture.setattr(cuda_graphs, "is_capturing", lambda: True)
            clipped_step()
        factor = recorder._events._captured_row["clip_coefficient"]
        for value in (0.5, 0.25):
            factor.fill_(value)  # as the graph's kernels would
            recorder.advance()
    training = gradscope.open_recording(path).load()["training"]
    assert training["clip_coefficient"].values[1:].tolist() == [0.5, 0.25]
    assert training["clip_coefficient"].values[0] < 0.5
    assert training["batch_size"].values.tolist() == [8] * 3
    assert training["is_skipped"].values.tolist() == [0] * 3
    # Norms before clipping are the recorded ones over the factor.
    assert training["total_grad_norm"].values[2] == 2 * training["total_grad_norm"].values[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graph_replays_equal_eager_steps(tmp_path):
    trees = []
    for is_graphed in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).cuda()
        optimizer = torch.optim.Adam(model.parameters(), capturable=True)
        x = torch.randn(32, 64, device="cuda")
        path = tmp_path / f"{is_graphed}.h5"
        with gradscope.Recorder(model, optimizer, path) as recorder:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                for _ in range(3):
                    one_step(model, optimizer, x)
            torch.cuda.current_stream().wait_stream(side)
            if is_graphed:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    one_step(model, optimizer, x)
            for _ in range(5):
                if is_graphed:
                    graph.replay()
                    recorder.advance()
                else:
                    one_step(model, optimizer, x)
        trees.append(gradscope.open_recording(path).load())
    eager, graphed = trees
    for name in (
        "gradients/grad_norm",
        "updates/update_norm",
        "second_moments/exp_avg_sq_mean",
        "activations/output_rms",
        "activations/output_grad_rms",
    ):
        np.testing.assert_allclose(graphed[name].values, eager[name].values, rtol=1e-4)

"""Launch plans, CUDA graphs, and a recording through either backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradscope
from gradscope.record import recorder
from gradscope.record.measure.cuda.backend import CudaBackend
from gradscope.record.measure.cuda.launch_plan import KEPT, RESERVE, LaunchTables
from gradscope.record.measure.reference.backend import ReferenceBackend
from gradscope.record.measure.reference.sums import PARAM_SUMS
from tests.record.measure.cuda_cases.tensors import DEVICE, DTYPES, made, make


def test_tables_are_made_once_for_addresses_that_come_back():
    tables = LaunchTables(DEVICE, 8192)
    tensors = [make((10,)) for _ in range(3 * KEPT)]
    plan = tables.plan("a", [0, 1], [tensors[:2]])
    assert tables.plan("a", [0, 1], [tensors[:2]]) is plan
    assert tables.plan("a", [1, 0], [tensors[:2]]) is not plan
    for tensor in tensors:
        tables.plan("a", [0], [[tensor]])
    assert len(tables._plans) == KEPT
    assert tables.plan("a", [0, 1], [tensors[:2]]).groups[0].rows.tolist() == [0, 1]


def test_the_reserve_for_captured_tables():
    tables = LaunchTables(DEVICE, 8192)
    for values in (np.arange(6, dtype=np.int32).reshape(2, 3), np.arange(4), np.arange(3)):
        taken = tables._take(values)
        assert taken.tolist() == values.tolist() and taken.numpy().dtype == values.dtype
    with pytest.raises(RuntimeError, match="no room for the tables of another captured CUDA graph"):
        tables._take(np.zeros(RESERVE))


def cuda_only():
    if DEVICE.type != "cuda":
        pytest.skip("needs a CUDA device")


def test_nothing_waits_for_the_device():
    cuda_only()
    tensors = made("plain", DTYPES["float32"])
    grads, params, after, v, m, below, above = tensors
    out = torch.zeros(len(grads), len(PARAM_SUMS), dtype=torch.float64, device=DEVICE)
    counts = torch.zeros(len(grads), 100, dtype=torch.float64, device=DEVICE)
    copies, rows = [torch.empty_like(p) for p in params], list(range(len(grads)))
    backend = CudaBackend(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            backend.gradients(out, rows, grads, params, copies)
            backend.updates(out, rows, copies, after, grads)
            backend.moments(out, rows, v, m, below, above)
            backend.log2_counts(counts, rows, grads, (-80, 15))
            backend.add_output(grads[-1], out[0, :6])
            grads = [g.clone() for g in grads]
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("is_known", [True, False])
def test_a_captured_graph_replays_the_sums(is_known):
    """With addresses seen before, and with tables that are made during the capture."""
    cuda_only()
    tensors = made("plain", DTYPES["float32"])
    grads, params, after, v, m, below, above = tensors
    n, rows = len(grads), list(range(len(grads)))
    out = torch.zeros(n, len(PARAM_SUMS), dtype=torch.float64, device=DEVICE)
    sums = torch.zeros(6, dtype=torch.float64, device=DEVICE)
    copies = [torch.empty_like(p) for p in params]
    backend = CudaBackend(DEVICE)

    def measure(grads):
        backend.gradients(out, rows, grads, params, copies)
        backend.updates(out, rows, copies, after, grads)
        backend.moments(out, rows, v, m, below, above)
        backend.add_output(grads[-1], sums)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        measure(grads if is_known else [g.clone() for g in grads])
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        measure(grads)
    for g in grads:
        g.mul_(3.0)
    sums.zero_()
    for _ in range(3):
        graph.replay()
    exact = torch.zeros_like(out)
    ReferenceBackend().gradients(exact, rows, grads, params, [])
    ReferenceBackend().updates(exact, rows, params, after, grads)
    ReferenceBackend().moments(exact, rows, v, m, below, above)
    torch.testing.assert_close(out, exact, rtol=3e-7, atol=1e-5, equal_nan=True)
    assert float(sums[1]) == pytest.approx(3 * float(grads[-1].double().square().sum()), rel=1e-12)


def test_a_recording_is_the_same_through_either_backend(tmp_path, monkeypatch):
    trees = []
    for backend in (CudaBackend(DEVICE), ReferenceBackend()):
        monkeypatch.setattr(recorder, "choose_backend", lambda device, chosen=backend: chosen)
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 2))
        model.to(DEVICE)
        optimizer = torch.optim.Adam(model.parameters())
        path = tmp_path / f"{type(backend).__name__}.h5"
        with gradscope.Recorder(model, optimizer, path, histogram_every=1):
            for step in range(2):
                optimizer.zero_grad()
                model(make((5, 6), seed=step)).square().mean().backward()
                optimizer.step()
        trees.append(gradscope.open_recording(path).load())
    for group in ("gradients", "updates", "second_moments", "activations", "histograms"):
        fast, exact = (tree[group].to_dataset() for tree in trees)
        assert set(fast) == set(exact) and fast.sizes["step"] == 2
        for name in fast:
            np.testing.assert_allclose(fast[name], exact[name], rtol=2e-5, atol=1e-7, err_msg=name)

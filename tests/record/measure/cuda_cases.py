"""The CUDA backend against the float64 reference, over shapes, scales, dtypes and rubbish.

Started by test_cuda_kernels.py in a process of its own: with TRITON_INTERPRET=1 on tensors of the
CPU, without it on a device.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

import gradscope
from gradscope.record import watcher
from gradscope.record.measure.choose import ReferenceBackend
from gradscope.record.measure.cuda.backend import CudaBackend
from gradscope.record.measure.cuda.kernels import finish_kernel
from gradscope.record.measure.cuda.launch_plan import KEPT, RESERVE, Tables
from gradscope.record.measure.reference.sums import GRADIENT, MOMENT, PARAM_SUMS, UPDATE

INF = torch.inf
DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
SHAPES = [(1,), (1025,), (0,), (5, 7, 3), (1024,), (8200,)]
# What other dtypes than float32 are tried on; the interpreter is slow.
HARD = ("mixed", "non-finite") + (() if DEVICE.type == "cpu" else ("tiny", "denormal"))
SPECIALS = {
    "plain": lambda g: g,
    "tiny": lambda g: g * 1e-20,
    "denormal": lambda g: g * 1e-41,
    "huge": lambda g: g * 1e15,
    "mixed": lambda g: g * torch.logspace(-12, 3, g.numel(), device=g.device).reshape(g.shape),
    "zeros": lambda g: g * (g > 0),
    "all zero": lambda g: g * 0,
    "non-finite": lambda g: torch.where(g > 1, INF, torch.where(g < -1, torch.nan, g)),
}
# dtypes of gradient, parameter and moments
DTYPES = {
    "float32": (torch.float32, torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16, torch.float16),
    "mixed": (torch.bfloat16, torch.float32, torch.float32),
}
EXACT = {"grad_abs_max", "moment_max"}


def make(shape, scale=1.0, seed=0, dtype=torch.float32):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return x.to(DEVICE, dtype)


def filled(backend, tensors):
    grads, params, after, v, m, below, above = tensors
    out = torch.full((len(grads) + 1, len(PARAM_SUMS)), torch.nan, dtype=torch.float64)
    out = out.to(DEVICE)
    rows = list(range(len(grads), 0, -1))
    copies = [torch.empty_like(p) for p in params]
    backend.gradients(out, rows, grads, params, copies)
    assert all(
        torch.equal(c.nan_to_num(7), p.nan_to_num(7)) for c, p in zip(copies, params, strict=True)
    )
    backend.updates(out, rows, copies, after, grads)
    backend.moments(out, rows, v, m, below, above)
    return out.cpu().numpy()


def assert_same(fast, exact, tensors):
    """Float64 throughout: 1e-12 of what was added up; logarithms to float32 rounding."""
    assert np.isnan(fast[0]).all() and np.array_equal(np.isnan(fast), np.isnan(exact))
    column = dict(zip(PARAM_SUMS, exact.T, strict=True))
    square = {name: np.sqrt(column[f"{name}_square_sum"]) for name in ("grad", "param", "update")}
    numel = np.array([0, *(g.numel() for g in tensors[0][::-1])])
    size = {
        "grad_sum": column["grad_abs_sum"],
        "grad_param_dot": square["grad"] * square["param"],
        "update_grad_dot": square["update"] * square["grad"],
        "update_param_dot": square["update"] * square["param"],
        "moment_log_sum": np.sqrt(column["moment_log_square_sum"] * numel),
    }
    for i, name in enumerate(PARAM_SUMS[:-1]):
        tolerance = 0.0 if "_n_" in name or name in EXACT else 3e-7 if "log" in name else 1e-12
        bound = np.nan_to_num(tolerance * np.abs(size.get(name, column[name])))
        error = np.nan_to_num(np.abs(fast[:, i] - exact[:, i]))
        assert (error <= bound).all(), (name, fast[:, i], exact[:, i])


def made(special, dtypes, shapes=SHAPES):
    grad, param, moment = dtypes
    grads = [SPECIALS[special](make(s, 1.0, i)).to(grad) for i, s in enumerate(shapes)]
    params = [make(s, 0.02, 100 + i, param) for i, s in enumerate(shapes)]
    steps = [torch.nan_to_num(g.float().clamp(-1, 1)).to(param) for g in grads]
    after = [p - 0.01 * step for p, step in zip(params, steps, strict=True)]
    v = [g.float().square().to(moment) for g in grads]
    m = [None if i in (1, 2) else (0.1 * g).to(moment) for i, g in enumerate(grads)]
    below = torch.full((len(grads),), 1e-6, dtype=torch.float64, device=DEVICE)
    above = torch.linspace(1.0, 2.0, len(grads), dtype=torch.float64, device=DEVICE)
    return grads, params, after, v, m, below, above


@pytest.mark.parametrize(
    ("special", "dtypes"),
    [(s, d) for d in DTYPES for s in SPECIALS if d == "float32" or s in HARD],
)
def test_sums_of_a_step(special, dtypes):
    tensors = made(special, DTYPES[dtypes])
    fast, exact = (filled(b, tensors) for b in (CudaBackend(DEVICE), ReferenceBackend()))
    assert_same(fast, exact, tensors)


def test_non_finite_parameters_and_moments():
    tensors = made("plain", DTYPES["float32"])
    _, params, _, v, m, _, _ = tensors
    params[3][0, 0, 0], params[3][1, 0, 0], v[3][0, 0, 0], m[3][2, 0, 0] = INF, torch.nan, INF, INF
    fast, exact = (filled(b, tensors) for b in (CudaBackend(DEVICE), ReferenceBackend()))
    assert_same(fast, exact, tensors)


def test_a_chunk_of_many_adds_up():
    """More chunks than are loaded at once, of two tensors; the second has a single one."""
    partial = torch.rand(41, 16, dtype=torch.float64, device=DEVICE)
    first = torch.tensor([0, 40, 41], dtype=torch.int32, device=DEVICE)
    rows = torch.tensor([2, 0], device=DEVICE)
    out = torch.full((3, 12), -1.0, dtype=torch.float64, device=DEVICE)
    finish_kernel[(2,)](
        partial,
        first,
        rows,
        out,
        12,
        COLUMN=3,
        N=9,
        MAXIMA=1 << 4,
        ROWS=16,
        WIDTH=16,
    )
    many = partial[:40, :9].sum(dim=0)
    many[4] = partial[:40, 4].max()
    torch.testing.assert_close(out[2, 3:], many, rtol=1e-14, atol=0)
    assert torch.equal(out[0, 3:], partial[40, :9])
    assert out[1].tolist() == [-1] * 12 and out[:, :3].eq(-1).all()


def test_layouts_and_dtypes_that_do_not_fit_fall_back():
    shape = (4, 6, 5, 5)
    channels_last = make(shape).to(memory_format=torch.channels_last)
    grads = [
        make(shape),
        channels_last,
        make(shape).double(),
        make((8, 12))[:, ::2],
        make((1,)).expand(9),
        channels_last,
        make((9,))[1:],
    ]
    params = [torch.randn_like(g) for g in grads]
    params[5] = params[5].contiguous()  # strides other than the gradient's
    copies = [torch.empty_like(p) for p in params]
    fast, exact = torch.zeros(2, 7, len(PARAM_SUMS), dtype=torch.float64, device=DEVICE)
    backend = CudaBackend(DEVICE)
    backend.gradients(fast, range(7), grads, params, copies)
    assert all(torch.equal(c, p) for c, p in zip(copies, params, strict=True))
    ReferenceBackend().gradients(exact, range(7), grads, params, [])
    torch.testing.assert_close(fast[:, GRADIENT], exact[:, GRADIENT], rtol=1e-12, atol=1e-12)
    backend.updates(fast, range(7), copies, params, grads)
    assert fast[:, UPDATE].tolist() == [[0, 0, 0]] * 7
    edges = torch.linspace(0.1, 0.7, 7, dtype=torch.float64, device=DEVICE)
    v = [g.square() for g in grads]
    backend.moments(fast, range(7), v, [None] * 7, edges, edges * INF)
    ReferenceBackend().moments(exact, range(7), v, [None] * 7, edges, edges * INF)
    torch.testing.assert_close(
        fast[:, MOMENT], exact[:, MOMENT], rtol=3e-7, atol=1e-5, equal_nan=True
    )


def test_addresses_that_come_back_with_other_tensors():
    """A cached table must not outlive the layout or dtype it was made for."""
    storage = make((64,))
    p = make((8, 8))
    backend = CudaBackend(DEVICE)
    for g in (storage.view(8, 8), storage.view(8, 8).t(), storage.bfloat16().view(8, 8), storage):
        p = p if g.ndim == 2 else p.flatten()
        fast, exact = torch.zeros(2, 1, len(PARAM_SUMS), dtype=torch.float64, device=DEVICE)
        for _ in range(2):
            backend.gradients(fast, [0], [g], [p], [])
        ReferenceBackend().gradients(exact, [0], [g], [p], [])
        torch.testing.assert_close(fast, exact, rtol=1e-12, atol=1e-12)


def test_the_probe_passes_where_kernels_work_and_only_there(monkeypatch):
    CudaBackend(DEVICE).probe()
    monkeypatch.setattr(CudaBackend, "updates", lambda self, out, *tensors: out.fill_(3.0))
    with pytest.raises(RuntimeError, match="do not add up"):
        CudaBackend(DEVICE).probe()


def test_tables_are_made_once_for_addresses_that_come_back():
    tables = Tables(DEVICE, 8192)
    tensors = [make((10,)) for _ in range(3 * KEPT)]
    plan = tables.plan("a", [0, 1], [tensors[:2]])
    assert tables.plan("a", [0, 1], [tensors[:2]]) is plan
    assert tables.plan("a", [1, 0], [tensors[:2]]) is not plan
    for tensor in tensors:
        tables.plan("a", [0], [[tensor]])
    assert len(tables._plans) == KEPT
    assert tables.plan("a", [0, 1], [tensors[:2]]).groups[0].rows.tolist() == [0, 1]


def test_the_reserve_for_captured_tables():
    tables = Tables(DEVICE, 8192)
    for values in (np.arange(6, dtype=np.int32).reshape(2, 3), np.arange(4), np.arange(3)):
        taken = tables._take(values)
        assert taken.tolist() == values.tolist() and taken.numpy().dtype == values.dtype
    with pytest.raises(RuntimeError, match="no room for the tables of another captured CUDA graph"):
        tables._take(np.zeros(RESERVE))


@pytest.mark.parametrize(
    ("special", "bins"), [("mixed", (-80, 15)), *((s, (-149, 31)) for s in SPECIALS)]
)
def test_octaves(special, bins):
    dtypes = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
    tensors = [SPECIALS[special](make(s, 1.0, i)).to(dtypes[i % 4]) for i, s in enumerate(SHAPES)]
    shape = (2, len(tensors), bins[1] - bins[0] + 5)
    fast, exact = torch.zeros(shape, dtype=torch.float64, device=DEVICE)
    CudaBackend(DEVICE).octaves(fast, range(len(tensors)), tensors, bins)
    ReferenceBackend().octaves(exact, range(len(tensors)), tensors, bins)
    assert torch.equal(fast, exact)
    assert fast.sum(dim=1).tolist() == [t.numel() for t in tensors]


def test_octaves_by_hand():
    x = [0.0, 1.0, 1.99, -2.0, 0.5, 0.49, 8.0, 1e30, -1e-30, 1e-45, INF, torch.nan]
    out = torch.zeros(1, 8, dtype=torch.float64, device=DEVICE)
    CudaBackend(DEVICE).octaves(out, [0], [torch.tensor(x, device=DEVICE)], (-1, 2))
    # octaves -1..2: 0.5 | 1, 1.99 | -2 | none; zero 1; under: 0.49, 1e-30, 1e-45; over: 8, 1e30
    assert out.tolist() == [[1, 2, 1, 0, 1, 3, 2, 2]]


def same_output(y, n_calls=2):
    fast, exact = torch.zeros(2, 6, dtype=torch.float64, device=DEVICE)
    backend = CudaBackend(DEVICE)
    for _ in range(n_calls):  # micro-batches
        backend.add_output(y, fast)
        ReferenceBackend().add_output(y, exact)
    total = float(torch.nan_to_num(y.double(), 0, 0, 0).abs().sum())
    assert fast[2:].tolist() == exact[2:].tolist()
    assert abs(float(fast[0] - exact[0])) <= 1e-12 * n_calls * total
    assert float(fast[1]) == pytest.approx(float(exact[1]), rel=1e-12)


@pytest.mark.parametrize(
    ("special", "dtype"),
    [
        (s, d)
        for d in (torch.float32, torch.bfloat16, torch.float16, torch.float64)
        for s in SPECIALS
        if d is torch.float32 or s in HARD
    ],
)
def test_outputs(special, dtype):
    for n in (0, 1, 1000, 4096, 9001):
        same_output(SPECIALS[special](make((n,))).to(dtype))


def test_outputs_of_any_layout():
    y = make((4, 6, 5, 5))
    for view in (
        y.to(memory_format=torch.channels_last),
        y.transpose(1, 2),
        y[:, ::2],
        make((1,)).expand(9, 3),
        y.flatten()[1:],
    ):
        same_output(view)


def test_sums_repeat_to_the_last_bit():
    y = make((3_000_001,) if DEVICE.type == "cuda" else (20_001,))
    results = torch.zeros(40 if DEVICE.type == "cuda" else 3, 6, dtype=torch.float64, device=DEVICE)
    backend = CudaBackend(DEVICE)
    for row in results:
        backend.add_output(y, row)
    assert (results == results[0]).all()


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
            backend.octaves(counts, rows, grads, (-80, 15))
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
        monkeypatch.setattr(watcher, "choose_backend", lambda device, chosen=backend: chosen)
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

"""Sums of a step: gradients, updates and moments against the float64 reference."""

from __future__ import annotations

import pytest
import torch

from gradscope.record.measure.cuda.backend import CudaBackend
from gradscope.record.measure.cuda.finish_kernel import finish_kernel
from gradscope.record.measure.reference.backend import ReferenceBackend
from gradscope.record.measure.reference.sums import GRADIENT, MOMENT, PARAM_SUMS, UPDATE
from tests.record.measure.cuda_cases.tensors import (
    DEVICE,
    DTYPES,
    HARD,
    INF,
    SPECIALS,
    assert_same,
    filled,
    made,
    make,
)


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

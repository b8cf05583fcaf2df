"""Counts by power of two and sums of outputs against the float64 reference."""

from __future__ import annotations

import pytest
import torch

from gradscope.record.measure.cuda.backend import CudaBackend
from gradscope.record.measure.reference.backend import ReferenceBackend
from tests.record.measure.cuda_cases.tensors import DEVICE, HARD, INF, SHAPES, SPECIALS, make


@pytest.mark.parametrize(
    ("special", "bins"), [("mixed", (-80, 15)), *((s, (-149, 31)) for s in SPECIALS)]
)
def test_log2_counts(special, bins):
    dtypes = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
    tensors = [SPECIALS[special](make(s, 1.0, i)).to(dtypes[i % 4]) for i, s in enumerate(SHAPES)]
    shape = (2, len(tensors), bins[1] - bins[0] + 5)
    fast, exact = torch.zeros(shape, dtype=torch.float64, device=DEVICE)
    CudaBackend(DEVICE).log2_counts(fast, range(len(tensors)), tensors, bins)
    ReferenceBackend().log2_counts(exact, range(len(tensors)), tensors, bins)
    assert torch.equal(fast, exact)
    assert fast.sum(dim=1).tolist() == [t.numel() for t in tensors]


def test_log2_counts_by_hand():
    x = [0.0, 1.0, 1.99, -2.0, 0.5, 0.49, 8.0, 1e30, -1e-30, 1e-45, INF, torch.nan]
    out = torch.zeros(1, 8, dtype=torch.float64, device=DEVICE)
    CudaBackend(DEVICE).log2_counts(out, [0], [torch.tensor(x, device=DEVICE)], (-1, 2))
    # bins -1..2: 0.5 | 1, 1.99 | -2 | none; zero 1; under: 0.49, 1e-30, 1e-45; over: 8, 1e30
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

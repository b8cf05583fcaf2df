"""Triton kernel that counts entries by the power of two below their magnitude."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import triton
import triton.language as tl

from gradscope.record.measure.cuda.tiles import (
    INFINITY,
    chunk,
    pointer,
    split,
    widen,
)


@triton.jit(do_not_specialize=["n_tensors", "n_chunks"])
def log2_kernel(
    addresses,
    sizes,
    chunks,
    n_tensors,
    n_chunks,
    partial,
    KIND: tl.constexpr,
    IS_ALIGNED: tl.constexpr,
    LOW: tl.constexpr,
    N_BINS: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Count entries as `sums.log2_counts` does, into ``partial`` int32 (n_chunks, WIDTH).

    The last column, beyond all counts, takes what is outside of the tensor.
    """
    tensor, start, n = chunk(sizes, chunks, n_chunks, CHUNK)
    x = pointer(addresses + tensor, KIND, IS_ALIGNED) + start
    lane = tl.arange(0, TILE)
    counts = tl.zeros((WIDTH,), tl.int32)
    full = n // TILE * TILE
    for at in range(0, full, TILE):
        counts += tl.histogram(_bin(tl.load(x + at + lane), LOW, N_BINS), WIDTH)
    if full < n:
        inside = full + lane < n
        found = _bin(tl.load(x + full + lane, mask=inside, other=0.0), LOW, N_BINS)
        counts += tl.histogram(tl.where(inside, found, WIDTH - 1), WIDTH)
    row = partial + tl.program_id(0).to(tl.int64) * WIDTH
    tl.store(row + tl.arange(0, WIDTH), counts)


@triton.jit
def _bin(raw, LOW: tl.constexpr, N_BINS: tl.constexpr):
    """Column of each entry: bins, then zero, under, over, not finite."""
    x = widen(raw)
    power, _ = split(x)
    found = power - LOW
    found = tl.where(power < LOW, N_BINS + 1, tl.where(found >= N_BINS, N_BINS + 2, found))
    found = tl.where(x == 0, N_BINS, found)
    return tl.where(tl.abs(x) < INFINITY, found, N_BINS + 3)

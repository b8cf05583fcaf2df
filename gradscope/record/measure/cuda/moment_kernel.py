"""Triton kernel for the raw sums of an optimizer's moments."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import triton
import triton.language as tl

from gradscope.record.measure.cuda.tiles import (
    chunk,
    finite,
    fold,
    fold_max,
    load,
    log_of,
    pointer,
    widen,
)


@triton.jit
def _moment_tile(sums, v, m, at, inside, below, above, HAS_M: tl.constexpr, IS_FULL: tl.constexpr):
    total, peak, logs, log_squares, n_zero, n_bad, n_small, m_square = sums
    raw = widen(load(v + at, inside, IS_FULL))
    x, is_finite = finite(raw)
    log = tl.where(x > 0, log_of(raw), 0.0)
    is_small = is_finite & inside & ((x <= below) | (x >= above))
    if HAS_M:
        y, _ = finite(load(m + at, inside, IS_FULL))
        m_square += fold(y * y)
    return (
        total + fold(x),
        tl.maximum(peak, fold_max(x)),
        logs + fold(log),
        log_squares + fold(log * log),
        n_zero + fold((is_finite & (x == 0) & inside).to(tl.int32)),
        n_bad + fold((~is_finite).to(tl.int32)),
        n_small + fold(is_small.to(tl.int32)),
        m_square,
    )


@triton.jit(do_not_specialize=["n_tensors", "n_chunks"])
def moment_kernel(
    addresses,
    sizes,
    chunks,
    n_tensors,
    n_chunks,
    partial,
    items,
    below,
    above,
    V: tl.constexpr,
    M: tl.constexpr,
    HAS_M: tl.constexpr,
    IS_ALIGNED: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Sum moments (`sums.MOMENT_SUMS`); ``addresses``: second and, with HAS_M, first moment.

    ``items`` int64 (n_tensors,) says where in ``below`` and ``above`` (float64) the thresholds of
    a tensor stand.
    """
    tensor, start, n = chunk(sizes, chunks, n_chunks, CHUNK)
    item = tl.load(items + tensor)
    low, high = tl.load(below + item), tl.load(above + item)
    v = pointer(addresses + tensor, V, IS_ALIGNED) + start
    m = v
    if HAS_M:
        m = pointer(addresses + n_tensors + tensor, M, IS_ALIGNED) + start
    lane = tl.arange(0, TILE)
    z, i = tl.zeros((TILE // 4,), tl.float64), tl.zeros((TILE // 4,), tl.int32)
    sums = (z, z, z, z, i, i, i, z)
    full = n // TILE * TILE
    for at in range(0, full, TILE):
        inside = lane < TILE
        sums = _moment_tile(sums, v, m, at + lane, inside, low, high, HAS_M, True)
    if full < n:
        inside = full + lane < n
        sums = _moment_tile(sums, v, m, full + lane, inside, low, high, HAS_M, False)
    row = partial + tl.program_id(0).to(tl.int64) * WIDTH
    total, peak, logs, log_squares, n_zero, n_bad, n_small, m_square = sums
    tl.store(row, tl.sum(total))
    tl.store(row + 1, tl.max(peak))
    tl.store(row + 2, tl.sum(logs))
    tl.store(row + 3, tl.sum(log_squares))
    tl.store(row + 4, tl.sum(n_zero).to(tl.float64))
    tl.store(row + 5, tl.sum(n_bad).to(tl.float64))
    tl.store(row + 6, tl.sum(n_small).to(tl.float64))
    if HAS_M:
        tl.store(row + 7, tl.sum(m_square))
    else:
        tl.store(row + 7, float("nan"))

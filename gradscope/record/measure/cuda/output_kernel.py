"""Triton kernel for the raw sums of one activation, or of the gradient that arrives there."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import triton
import triton.language as tl

from gradscope.record.measure.cuda.tiles import finite, fold, fold_max, load

MAX_PROGRAMS = 512
"""Whatever the device, so that results do not depend on it."""
TILES_EACH = 4
"""Tiles from which another program is worth starting."""
WIDTH = 8
"""Columns of a row of partial sums."""


@triton.jit
def _output_tile(sums, y, at, inside, IS_FULL: tl.constexpr):
    total, square, peak, n_zero, n_bad = sums
    x, is_finite = finite(load(y + at, inside, IS_FULL))
    return (
        total + fold(x),
        square + fold(x * x),
        tl.maximum(peak, fold_max(tl.abs(x))),
        n_zero + fold((is_finite & (x == 0) & inside).to(tl.int32)),
        n_bad + fold((~is_finite).to(tl.int32)),
    )


@triton.jit(do_not_specialize=["n"], do_not_specialize_on_alignment=["sums"])
def output_kernel(
    y,
    n,
    sums,
    partial,
    ticket,
    TILE: tl.constexpr,
    MAX_PROGRAMS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Add the sums of one tensor (`sums.OUTPUT_SUMS`) to a row, in one launch.

    Each program leaves its sums in ``partial`` float64 (MAX_PROGRAMS, WIDTH); the one that draws
    the last number of ``ticket`` int32 adds them up, in a fixed order, and puts the zero back.
    """
    lane = tl.arange(0, TILE)
    z, i = tl.zeros((TILE // 4,), tl.float64), tl.zeros((TILE // 4,), tl.int32)
    own = (z, z, z, i, i)
    n_programs = tl.num_programs(0)
    n_full = n // TILE
    for tile in range(tl.program_id(0), n_full, n_programs):
        own = _output_tile(own, y + tile * tl.full((), TILE, tl.int64), lane, lane < TILE, True)
    if tl.program_id(0) == n_full % n_programs:
        rest = (n - n_full * TILE).to(tl.int32)
        tail = y + n_full.to(tl.int64) * TILE
        own = _output_tile(own, tail, lane, lane < rest, False)
    total, square, peak, n_zero, n_bad = own
    row = partial + tl.program_id(0) * WIDTH
    tl.store(row, tl.sum(total))
    tl.store(row + 1, tl.sum(square))
    tl.store(row + 2, tl.max(peak))
    tl.store(row + 3, tl.sum(n_zero).to(tl.float64))
    tl.store(row + 4, tl.sum(n_bad).to(tl.float64))
    tl.debug_barrier()  # all threads have stored before one of them draws
    if tl.atomic_add(ticket, 1, sem="acq_rel") == n_programs - 1:
        program, column = tl.arange(0, MAX_PROGRAMS), tl.arange(0, WIDTH)
        inside = (program < n_programs)[:, None] & (column < 5)[None, :]
        where = program[:, None] * WIDTH + column[None, :]
        parts = tl.load(partial + where, mask=inside, other=0.0, cache_modifier=".cg")
        before = tl.load(sums + column, mask=column < 6, other=0.0)
        added = tl.sum(parts, axis=0) + tl.where(column == 5, n.to(tl.float64), 0.0)
        peaks = tl.maximum(before, tl.max(parts, axis=0))
        tl.store(sums + column, tl.where(column == 2, peaks, before + added), mask=column < 6)
        tl.store(ticket, 0)

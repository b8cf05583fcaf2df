"""Triton kernels for the raw sums of `measures`: one launch over all parameters.

Tensors come as a table of addresses and are cut into chunks of `CHUNK` entries, one program each;
a second kernel adds a tensor's chunks in a fixed order, so results repeat to the last bit. Sums are
kept in float64: on a data-centre GPU (float64 at half the rate of float32) that hides behind
memory, where scaling by the chunk's largest power of two would need the largest first and so a
barrier for each tile; entries from 1e-45 to 3e38 then need no care at all. On a consumer GPU
(1:64) it should take about twice the time of reading, counting instructions.

Runs on the CPU, slowly, where ``TRITON_INTERPRET=1`` is set before triton is imported.
"""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import triton
import triton.language as tl

from gradscope.record.measure.cuda.tiles import (
    INFINITY,
    chunk,
    finite,
    fold,
    fold_max,
    load,
    log_of,
    pointer,
    split,
    widen,
)

CHUNK = 8192
"""Entries of one program: enough to pay for its start, few enough to fill a GPU with 1 M."""
TILE = 1024
"""Entries loaded at once by a program of `N_WARPS` warps."""
N_WARPS = 4
WIDTH = 16
"""Columns of a row of partial sums."""
FINISHED = 2048
"""Partial sums that `finish_kernel` loads at once."""


@triton.jit
def _gradient_tile(sums, g, p, at, inside, copies, HAS_COPY: tl.constexpr, IS_FULL: tl.constexpr):
    total, absolute, square, fourth, dot, p_square, peak, n_zero, n_bad = sums
    raw, theta = load(g + at, inside, IS_FULL), load(p + at, inside, IS_FULL)
    if HAS_COPY:
        if IS_FULL:
            tl.store(copies + at, theta)
        else:
            tl.store(copies + at, theta, mask=inside)
    x, is_finite = finite(raw)
    t, _ = finite(theta)
    q = x * x
    return (
        total + fold(x),
        absolute + fold(tl.abs(x)),
        square + fold(q),
        fourth + fold(q * q),
        dot + fold(x * t),
        p_square + fold(t * t),
        tl.maximum(peak, fold_max(tl.abs(x))),
        n_zero + fold((is_finite & (x == 0) & inside).to(tl.int32)),
        n_bad + fold((~is_finite).to(tl.int32)),
    )


@triton.jit(do_not_specialize=["n_tensors", "n_chunks"])
def gradient_kernel(
    addresses,
    sizes,
    chunks,
    n_tensors,
    n_chunks,
    partial,
    GRAD: tl.constexpr,
    PARAM: tl.constexpr,
    COPY: tl.constexpr,
    HAS_COPY: tl.constexpr,
    IS_ALIGNED: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Sum gradients (`measures.GRADIENT_SUMS`) and copy the parameters.

    ``addresses`` int64 (3, n_tensors): gradient, parameter, copy. ``sizes`` int64 (n_tensors,).
    ``chunks`` int32 (2, n_chunks): tensor and number within it. ``partial`` float64
    (n_chunks, WIDTH).
    """
    tensor, start, n = chunk(sizes, chunks, n_chunks, CHUNK)
    g = pointer(addresses + tensor, GRAD, IS_ALIGNED) + start
    p = pointer(addresses + n_tensors + tensor, PARAM, IS_ALIGNED) + start
    copies = p
    if HAS_COPY:
        copies = pointer(addresses + 2 * n_tensors + tensor, COPY, IS_ALIGNED) + start
    lane = tl.arange(0, TILE)
    z, i = tl.zeros((TILE // 4,), tl.float64), tl.zeros((TILE // 4,), tl.int32)
    sums = (z, z, z, z, z, z, z, i, i)
    full = n // TILE * TILE
    for at in range(0, full, TILE):
        sums = _gradient_tile(sums, g, p, at + lane, lane < TILE, copies, HAS_COPY, True)
    if full < n:
        rest = full + lane
        sums = _gradient_tile(sums, g, p, rest, rest < n, copies, HAS_COPY, False)
    row = partial + tl.program_id(0).to(tl.int64) * WIDTH
    total, absolute, square, fourth, dot, p_square, peak, n_zero, n_bad = sums
    tl.store(row, tl.sum(total))
    tl.store(row + 1, tl.sum(absolute))
    tl.store(row + 2, tl.sum(square))
    tl.store(row + 3, tl.sum(fourth))
    tl.store(row + 4, tl.max(peak))
    tl.store(row + 5, tl.sum(n_zero).to(tl.float64))
    tl.store(row + 6, tl.sum(n_bad).to(tl.float64))
    tl.store(row + 7, tl.sum(dot))
    tl.store(row + 8, tl.sum(p_square))


@triton.jit
def _update_tile(sums, before, after, g, at, inside, IS_FULL: tl.constexpr):
    square, ug, up = sums
    old, new = load(before + at, inside, IS_FULL), load(after + at, inside, IS_FULL)
    moved = widen(new).to(tl.float64) - widen(old).to(tl.float64)
    u = tl.where(tl.abs(moved) < INFINITY, moved, 0.0)
    x, _ = finite(load(g + at, inside, IS_FULL))
    t, _ = finite(old)
    return square + fold(u * u), ug + fold(u * x), up + fold(u * t)


@triton.jit(do_not_specialize=["n_tensors", "n_chunks"])
def update_kernel(
    addresses,
    sizes,
    chunks,
    n_tensors,
    n_chunks,
    partial,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
    GRAD: tl.constexpr,
    IS_ALIGNED: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Sum updates (`measures.UPDATE_SUMS`); ``addresses``: before, after, gradient."""
    tensor, start, n = chunk(sizes, chunks, n_chunks, CHUNK)
    before = pointer(addresses + tensor, BEFORE, IS_ALIGNED) + start
    after = pointer(addresses + n_tensors + tensor, AFTER, IS_ALIGNED) + start
    g = pointer(addresses + 2 * n_tensors + tensor, GRAD, IS_ALIGNED) + start
    lane = tl.arange(0, TILE)
    z = tl.zeros((TILE // 4,), tl.float64)
    sums = (z, z, z)
    full = n // TILE * TILE
    for at in range(0, full, TILE):
        sums = _update_tile(sums, before, after, g, at + lane, lane < TILE, True)
    if full < n:
        sums = _update_tile(sums, before, after, g, full + lane, full + lane < n, False)
    row = partial + tl.program_id(0).to(tl.int64) * WIDTH
    square, ug, up = sums
    tl.store(row, tl.sum(square))
    tl.store(row + 1, tl.sum(ug))
    tl.store(row + 2, tl.sum(up))


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
    """Sum moments (`measures.MOMENT_SUMS`); ``addresses``: second and, with HAS_M, first moment.

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


@triton.jit(do_not_specialize=["n_tensors", "n_chunks"])
def octave_kernel(
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
    """Count entries by octave (`measures.octave_counts`) into ``partial`` int32 (n_chunks, WIDTH).

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
    """Column of each entry: octaves, then zero, under, over, not finite."""
    x = widen(raw)
    octave, _ = split(x)
    found = octave - LOW
    found = tl.where(octave < LOW, N_BINS + 1, tl.where(found >= N_BINS, N_BINS + 2, found))
    found = tl.where(x == 0, N_BINS, found)
    return tl.where(tl.abs(x) < INFINITY, found, N_BINS + 3)


@triton.jit(do_not_specialize=["row_stride"])
def finish_kernel(
    partial,
    first,
    rows,
    out,
    row_stride,
    COLUMN: tl.constexpr,
    N: tl.constexpr,
    MAXIMA: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Combine a tensor's chunks, ``first[t]`` to ``first[t + 1]``, into columns of its row.

    ``out`` float64; ``rows`` int64 (n_tensors,); bit c of MAXIMA: column c combines by maximum.
    """
    tensor = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    is_peak = ((MAXIMA >> column) & 1) == 1
    start, stop = tl.load(first + tensor), tl.load(first + tensor + 1)
    total = tl.zeros((ROWS, WIDTH), tl.float64)
    for block in range(start, stop, ROWS):
        at = block + tl.arange(0, ROWS)
        inside = (at < stop)[:, None] & (column < N)[None, :]
        where = at.to(tl.int64)[:, None] * WIDTH + column[None, :]
        new = tl.load(partial + where, mask=inside, other=0).to(tl.float64)
        total = tl.where(is_peak[None, :], tl.maximum(total, new), total + new)
    combined = tl.where(is_peak, tl.max(total, axis=0), tl.sum(total, axis=0))
    row = out + tl.load(rows + tensor) * row_stride + COLUMN
    tl.store(row + column, combined, mask=column < N)

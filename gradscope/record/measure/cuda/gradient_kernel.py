"""Triton kernel for the raw sums of gradients, which also copies the parameters."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import triton
import triton.language as tl

from gradscope.record.measure.cuda.tiles import chunk, finite, fold, fold_max, load, pointer


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
    """Sum gradients (`sums.GRADIENT_SUMS`) and copy the parameters.

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

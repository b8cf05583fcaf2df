"""Triton kernel for the raw sums of measured updates."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import triton
import triton.language as tl

from gradscope.record.measure.cuda.tiles import INFINITY, chunk, finite, fold, load, pointer, widen


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
    """Sum updates (`sums.UPDATE_SUMS`); ``addresses``: before, after, gradient."""
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

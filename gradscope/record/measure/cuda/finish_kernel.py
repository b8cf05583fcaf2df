"""Triton kernel that combines the chunks of each tensor."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import triton
import triton.language as tl


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

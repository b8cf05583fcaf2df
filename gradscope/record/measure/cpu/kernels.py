"""Kernels of the compiled backend: each sums over the blocks of all tensors of a job."""

from __future__ import annotations

import numpy as np
from numba.np.numpy_support import carray

from gradscope.native.bits import float32_array, int32_array, pointer_to
from gradscope.native.compiler import Address, Array, Int64, Kernel, jit
from gradscope.native.jobs import blocks, job_of, next_part
from gradscope.native.sums.gradients import add_gradient_block
from gradscope.native.sums.moments import THRESHOLDS, add_moment_block
from gradscope.native.sums.outputs import LONGEST, add_output_block
from gradscope.native.sums.updates import add_update_block

_thresholds_at = pointer_to(THRESHOLDS)


@jit
def _add_gradients(table: Array, numel: Array, first: Int64, last: Int64, out: Array) -> None:
    e = np.int64(0)
    for item, start, stop in blocks(numel, first, last):
        n, at = stop - start, 4 * start
        g, gb = float32_array(table[item, 0] + at, n), int32_array(table[item, 0] + at, n)
        p, pb = float32_array(table[item, 1] + at, n), int32_array(table[item, 1] + at, n)
        e = add_gradient_block(g, gb, p, pb, e, out[item])
        if table[item, 2] != 0:
            copy = float32_array(table[item, 2] + at, n)
            for i in range(n):
                copy[i] = p[i]


@Kernel
def gradients(data: Address) -> None:
    """Sum `GRADIENT_SUMS`; tables hold gradient, parameter, the copy to make (0: none)."""
    table, numel, first, last, out = next_part(data, 3)
    while first < last:
        _add_gradients(table, numel, first, last, out)
        table, numel, first, last, out = next_part(data, 3)


@jit
def _add_updates(table: Array, numel: Array, first: Int64, last: Int64, out: Array) -> None:
    ue, ge = np.int64(0), np.int64(0)
    for item, start, stop in blocks(numel, first, last):
        n, at = stop - start, 4 * start
        before = float32_array(table[item, 0] + at, n)
        after = float32_array(table[item, 1] + at, n)
        g, gb = float32_array(table[item, 2] + at, n), int32_array(table[item, 2] + at, n)
        ue, ge = add_update_block(before, after, g, gb, ue, ge, out[item])


@Kernel
def updates(data: Address) -> None:
    """Sum `UPDATE_SUMS`; tables hold parameter before and after, gradient."""
    table, numel, first, last, out = next_part(data, 3)
    while first < last:
        _add_updates(table, numel, first, last, out)
        table, numel, first, last, out = next_part(data, 3)


@jit
def _add_outputs(table: Array, numel: Array, first: Int64, last: Int64, out: Array) -> None:
    for item, start, stop in blocks(numel, first, last, LONGEST):
        n, at = stop - start, 4 * start
        y, b = float32_array(table[item, 0] + at, n), int32_array(table[item, 0] + at, n)
        add_output_block(y, b, out[item])


@Kernel
def outputs(data: Address) -> None:
    """Sum `OUTPUT_SUMS`; tables hold the tensor."""
    table, numel, first, last, out = next_part(data, 1)
    while first < last:
        _add_outputs(table, numel, first, last, out)
        table, numel, first, last, out = next_part(data, 1)


@jit
def _add_moments(
    table: Array, numel: Array, first: Int64, last: Int64, thresholds: Array, out: Array
) -> None:
    m_sums = np.zeros(6)
    for item, start, stop in blocks(numel, first, last):
        n, at = stop - start, 4 * start
        v, vb = float32_array(table[item, 0] + at, n), int32_array(table[item, 0] + at, n)
        edges = thresholds[item]
        add_moment_block(v, vb, edges.below, edges.above, out[item])
        if table[item, 1] != 0:
            m = float32_array(table[item, 1] + at, n)
            mb = int32_array(table[item, 1] + at, n)
            m_sums[1] = 0.0
            add_output_block(m, mb, m_sums)
            out[item, 7] += m_sums[1]


@Kernel
def moments(data: Address) -> None:
    """Sum `MOMENT_SUMS`; tables hold second and first moment (0: none), ``extra`` `THRESHOLDS`."""
    job = job_of(data)
    thresholds = carray(_thresholds_at(job.extra), job.n_tensors)
    table, numel, first, last, out = next_part(data, 2)
    while first < last:
        _add_moments(table, numel, first, last, thresholds, out)
        table, numel, first, last, out = next_part(data, 2)

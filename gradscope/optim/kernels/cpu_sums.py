"""The CPU kernel of SMES that also sums what it reads and writes, block by block.

The update is that of `gradscope.optim.kernels.cpu`, to the last bit. Sums are taken while a block
is in the first-level cache: of gradient and parameter before the update, of the parameter's change
and of the new moments after it.
"""

from __future__ import annotations

import functools

import numpy as np
from numba.np.numpy_support import carray

from gradscope.native.bits import float32_array, int32_array, pointer_to
from gradscope.native.compiler import Address, Array, Kernel, jit_in_order
from gradscope.native.jobs import BLOCK, blocks, job_of, next_part
from gradscope.native.sums.gradients import add_gradient_block
from gradscope.native.sums.moments import THRESHOLDS, add_moment_block
from gradscope.native.sums.outputs import add_output_block
from gradscope.native.sums.updates import add_update_block
from gradscope.optim.kernels.cpu import options_at, step_block, steps_at

_thresholds_at = pointer_to(THRESHOLDS)


@jit_in_order
def _update(data: Address, kind: int, has_decay: bool) -> None:
    """Update as the kernel without sums does and add `STEP_SUMS` to ``out``."""
    job = job_of(data)
    options = carray(options_at(job.extra), 1)[0]
    steps = carray(steps_at(options.steps), job.n_tensors)
    thresholds: Array = carray(_thresholds_at(options.thresholds), job.n_tensors)
    old, m_sums = np.empty(BLOCK, np.float32), np.zeros(6)
    table, numel, first, last, out = next_part(data, 4)
    while first < last:
        is_moderate = np.bool_(True)
        e, ue, ge = np.int64(0), np.int64(0), np.int64(0)  # exponents of the block before
        for item, start, stop in blocks(numel, first, last):
            n, at, row = stop - start, 4 * start, out[item]
            theta, g = float32_array(table[item, 0] + at, n), float32_array(table[item, 1] + at, n)
            m, v = float32_array(table[item, 2] + at, n), float32_array(table[item, 3] + at, n)
            theta_bits = int32_array(table[item, 0] + at, n)
            g_bits = int32_array(table[item, 1] + at, n)
            m_bits = int32_array(table[item, 2] + at, n)
            v_bits = int32_array(table[item, 3] + at, n)
            e = add_gradient_block(g, g_bits, theta, theta_bits, e, row)
            for i in range(n):
                old[i] = theta[i]
            step = steps[item]
            is_moderate = step_block(
                theta, g, m, v, options, step, kind, has_decay, old, is_moderate
            )
            ue, ge = add_update_block(old[:n], theta, g, g_bits, ue, ge, row[9:])
            edges = thresholds[item]
            add_moment_block(v, v_bits, edges.below, edges.above, row[12:])
            m_sums[1] = 0.0
            add_output_block(m, m_bits, m_sums)
            row[19] += m_sums[1]
        table, numel, first, last, out = next_part(data, 4)


@functools.cache
def update_and_sum_kernel(kind: int, has_decay: bool) -> Kernel:
    """Return the kernel that also sums, of a kind of denominator, with coupled decay or without."""

    def update_and_sum(data: Address) -> None:
        _update(data, kind, has_decay)

    update_and_sum.__name__ = f"update_and_sum_{kind}_{int(has_decay)}"
    return Kernel(update_and_sum)

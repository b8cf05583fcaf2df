"""Raw sums of a block of gradients and of the parameters before the step.

Entries are scaled by the power of two near the largest of the block before and summed in float32. A
block whose own largest is far from that is summed once more with its own. The sums of blocks are
added in float64. So 1e-20 and 1e+15 come out right, and an entry costs a few float32 instructions.
"""

from __future__ import annotations

import numpy as np

from gradscope.native.bits import (
    INFINITY,
    MAGNITUDE,
    exponent_of,
    finite_magnitude,
    finite_or_zero,
    is_out_of_range,
    magnitude_of,
)
from gradscope.native.compiler import Array, Float32, Int32, jit


@jit
def _sweep(g: Array, gb: Array, p: Array, pb: Array, e: Int32) -> tuple[Float32, ...]:
    s = np.float32(2.0**-e)
    total, absolute, square, fourth = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    dot, p_square = np.float32(0), np.float32(0)
    zeros, nonfinite, peak = np.int32(0), np.int32(0), np.int32(0)
    for i in range(g.shape[0]):
        b = np.int32(gb[i] & MAGNITUDE)
        x = finite_or_zero(g[i], gb[i]) * s
        t = finite_or_zero(p[i], pb[i])
        q = x * x
        total += x
        absolute += abs(x)
        square += q
        fourth += q * q
        dot += x * t
        p_square += t * t
        zeros = np.int32(zeros + np.int32(b == 0))
        nonfinite = np.int32(nonfinite + np.int32(b >= INFINITY))
        peak = np.int32(max(peak, finite_magnitude(gb[i])))
    return total, absolute, square, fourth, dot, p_square, zeros, nonfinite, peak


@jit
def add_gradient_block(g: Array, gb: Array, p: Array, pb: Array, guess: Int32, out: Array) -> Int32:
    """Add nine sums of a block to a row; return the exponent of its largest entry."""
    e = guess
    sums = _sweep(g, gb, p, pb, e)
    peak = sums[8]
    if is_out_of_range(e, peak):
        e = exponent_of(peak)
        sums = _sweep(g, gb, p, pb, e)
    scale = 2.0**e
    out[0] += sums[0] * scale
    out[1] += sums[1] * scale
    out[2] += sums[2] * scale**2
    out[3] += sums[3] * scale**4
    out[4] = max(out[4], np.float64(magnitude_of(peak)))
    out[5] += sums[6]
    out[6] += sums[7]
    if 1e-30 < sums[5] < 1e30:
        out[7] += sums[4] * scale
        out[8] += sums[5]
    else:  # parameters beyond what float32 squares carry
        for i in range(g.shape[0]):
            t = np.float64(finite_or_zero(p[i], pb[i]))
            out[7] += np.float64(finite_or_zero(g[i], gb[i])) * t
            out[8] += t * t
    return exponent_of(peak)

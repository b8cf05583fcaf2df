"""Raw sums of a block of one tensor: a layer's output, the gradient there, or a first moment."""

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
def _sweep(x: Array, bits: Array, e: Int32) -> tuple[Float32, ...]:
    s = np.float32(2.0**-e)
    total, square = np.float32(0), np.float32(0)
    zeros, nonfinite, peak = np.int32(0), np.int32(0), np.int32(0)
    for i in range(x.shape[0]):
        b = np.int32(bits[i] & MAGNITUDE)
        y = finite_or_zero(x[i], bits[i]) * s
        total += y
        square += y * y
        zeros = np.int32(zeros + np.int32(b == 0))
        nonfinite = np.int32(nonfinite + np.int32(b >= INFINITY))
        peak = max(peak, finite_magnitude(bits[i]))
    return total, square, zeros, nonfinite, peak


@jit
def add_output_block(x: Array, bits: Array, guess: Int32, out: Array) -> Int32:
    """Add `OUTPUT_SUMS` of a block to a row; return the exponent of its largest entry."""
    e = guess
    sums = _sweep(x, bits, e)
    peak = sums[4]
    if is_out_of_range(e, peak):
        e = exponent_of(peak)
        sums = _sweep(x, bits, e)
    out[0] += sums[0] * 2.0**e
    out[1] += sums[1] * 2.0 ** (2 * e)
    out[2] = max(out[2], np.float64(magnitude_of(peak)))
    out[3] += sums[2]
    out[4] += sums[3]
    out[5] += x.shape[0]
    return exponent_of(peak)

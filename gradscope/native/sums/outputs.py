"""Raw sums of a block of one tensor: a layer's output, the gradient there, or a first moment."""

from __future__ import annotations

import numpy as np

from gradscope.native.bits import (
    INFINITY,
    MAGNITUDE,
    exponent_of,
    finite_or_zero,
    finite_peak,
    magnitude_of,
)
from gradscope.native.compiler import Array, Float32, Int32, jit

LONGEST = 4096
"""Entries of a block, at most: the squares of so many stay finite below 2**HIGHEST."""
LOWEST, HIGHEST = -40, 50
"""Exponents of a block's largest entry where float32 carries the squares of all that count."""


@jit
def _moderate_sweep(x: Array, bits: Array) -> tuple[Float32, ...]:
    """Sum entries that are all finite; the peak (bits of a magnitude) tells whether they were."""
    total, square = np.float32(0), np.float32(0)
    zeros, peak = np.int32(0), np.int32(0)
    for i in range(x.shape[0]):
        b = np.int32(bits[i] & MAGNITUDE)
        total += x[i]
        square += x[i] * x[i]
        zeros = np.int32(zeros + np.int32(b == 0))
        peak = max(peak, b)
    return total, square, zeros, peak


@jit
def _any_sweep(x: Array, bits: Array, e: Int32) -> tuple[Float32, ...]:
    """`_moderate_sweep` of entries scaled by ``2**-e``, of which some may not be finite."""
    s = np.float32(2.0**-e)
    total, square = np.float32(0), np.float32(0)
    zeros, nonfinite = np.int32(0), np.int32(0)
    for i in range(x.shape[0]):
        b = np.int32(bits[i] & MAGNITUDE)
        y = finite_or_zero(x[i], bits[i]) * s
        total += y
        square += y * y
        zeros = np.int32(zeros + np.int32(b == 0))
        nonfinite = np.int32(nonfinite + np.int32(b >= INFINITY))
    return total, square, zeros, nonfinite


@jit
def add_output_block(x: Array, bits: Array, out: Array) -> None:
    """Add `OUTPUT_SUMS` of a block of at most `LONGEST` entries to a row."""
    total, square, zeros, peak = _moderate_sweep(x, bits)
    e, nonfinite = np.int32(0), np.int32(0)
    is_moderate = peak == 0 or LOWEST <= exponent_of(peak) <= HIGHEST
    if peak >= INFINITY or not is_moderate:
        peak = finite_peak(bits)
        e = exponent_of(peak)
        total, square, zeros, nonfinite = _any_sweep(x, bits, e)
    out[0] += total * 2.0**e
    out[1] += square * 2.0 ** (2 * e)
    out[2] = max(out[2], np.float64(magnitude_of(peak)))
    out[3] += zeros
    out[4] += nonfinite
    out[5] += x.shape[0]

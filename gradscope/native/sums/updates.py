"""Raw sums of a block of measured updates, scaled as those of gradients are."""

from __future__ import annotations

import numpy as np

from gradscope.native.bits import (
    bits_of,
    exponent_of,
    finite_magnitude,
    finite_or_zero,
    is_out_of_range,
)
from gradscope.native.compiler import Array, Float32, Int32, jit


@jit
def _sweep(
    before: Array, after: Array, g: Array, gb: Array, ue: Int32, ge: Int32
) -> tuple[Float32, ...]:
    us, gs = np.float32(2.0**-ue), np.float32(2.0**-ge)
    square, ug, up = np.float32(0), np.float32(0), np.float32(0)
    u_peak, g_peak = np.int32(0), np.int32(0)
    for i in range(before.shape[0]):
        moved = after[i] - before[i]
        bits = bits_of(moved)
        u = finite_or_zero(moved, bits) * us
        t = before[i] if abs(before[i]) < np.float32(1e30) else np.float32(0)
        square += u * u
        ug += u * (finite_or_zero(g[i], gb[i]) * gs)
        up += u * t
        u_peak = max(u_peak, finite_magnitude(bits))
        g_peak = max(g_peak, finite_magnitude(gb[i]))
    return square, ug, up, u_peak, g_peak


@jit
def add_update_block(
    before: Array, after: Array, g: Array, gb: Array, ue: Int32, ge: Int32, out: Array
) -> tuple[Int32, Int32]:
    """Add three sums of a block to a row; return the exponents of largest update and gradient."""
    sums = _sweep(before, after, g, gb, ue, ge)
    if is_out_of_range(ue, sums[3]) or is_out_of_range(ge, sums[4]):
        ue, ge = exponent_of(sums[3]), exponent_of(sums[4])
        sums = _sweep(before, after, g, gb, ue, ge)
    out[0] += sums[0] * 2.0 ** (2 * ue)
    out[1] += sums[1] * 2.0**ue * 2.0**ge
    out[2] += sums[2] * 2.0**ue
    return exponent_of(sums[3]), exponent_of(sums[4])

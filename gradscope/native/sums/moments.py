"""Raw sums of a block of second moments.

A block is scaled by its own largest entry: whether all are normal has to be known before their
logarithms, which are cheaper then.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradscope.native.bits import (
    INFINITY,
    MAGNITUDE,
    SMALLEST_NORMAL,
    SMALLEST_NORMAL_BITS,
    bits_of,
    exponent_of,
    finite_peak,
    float_of,
    is_finite,
    magnitude_of,
)
from gradscope.native.compiler import Array, Float32, Int32, jit
from gradscope.native.logarithm import log_above

THRESHOLDS = np.dtype([("below", np.float32), ("above", np.float32)])
"""Of a tensor: second moments at or beyond these count as dominated by epsilon."""


def round_inward(below: NDArray[np.float64], above: NDArray[np.float64]) -> NDArray[np.void]:
    """Round thresholds to the float32 that compare with float32 entries as the exact ones do."""
    with np.errstate(over="ignore"):
        low, high = below.astype(np.float32), above.astype(np.float32)
    thresholds = np.empty(len(below), dtype=THRESHOLDS)
    thresholds["below"] = np.where(low > below, np.nextafter(low, np.float32(-np.inf)), low)
    thresholds["above"] = np.where(high < above, np.nextafter(high, np.float32(np.inf)), high)
    return thresholds


@jit
def _bits_range(vb: Array) -> tuple[Int32, Int32]:
    low, high = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for i in range(vb.shape[0]):
        low, high = np.int32(min(low, vb[i])), np.int32(max(high, vb[i]))
    return low, high


@jit
def _normal_sweep(v: Array, vb: Array, e: Int32) -> tuple[Float32, ...]:
    """Sum v and its logarithm where all are normal, counted from 2**e for the square's digits."""
    s, origin = np.float32(2.0**-e), np.int32(e)
    total, logs, log_squares = np.float32(0), np.float32(0), np.float32(0)
    for i in range(v.shape[0]):
        log = log_above(vb[i], origin)
        total += v[i] * s
        logs += log
        log_squares += log * log
    return total, logs, log_squares


@jit
def _any_sweep(v: Array, vb: Array, e: Int32) -> tuple[Float32, ...]:
    """`_normal_sweep` where some may be zero, denormal, negative or not finite."""
    s, origin = np.float32(2.0**-e), np.int32(e)
    total, logs, log_squares = np.float32(0), np.float32(0), np.float32(0)
    zeros, nonfinite = np.int32(0), np.int32(0)
    for i in range(v.shape[0]):
        b = np.int32(vb[i] & MAGNITUDE)
        has_value = b < INFINITY
        x = v[i] if has_value else np.float32(0)
        is_denormal = x < SMALLEST_NORMAL
        raised = x * np.float32(16777216.0) if is_denormal else x
        start = np.int32(origin + np.int32(24)) if is_denormal else origin
        log = log_above(bits_of(raised), start)
        log = log if x > np.float32(0) else np.float32(0)
        total += x * s
        logs += log
        log_squares += log * log
        zeros = np.int32(zeros + np.int32(b == 0))
        nonfinite = np.int32(nonfinite + np.int32(not has_value))
    return total, logs, log_squares, zeros, nonfinite


@jit
def _count_beyond(v: Array, vb: Array, below: Float32, above: Float32) -> Int32:
    small = np.int32(0)
    for i in range(v.shape[0]):
        is_beyond = v[i] <= below or v[i] >= above
        small = np.int32(small + np.int32(is_finite(vb[i]) and is_beyond))
    return small


@jit
def add_moment_block(v: Array, vb: Array, below: Float32, above: Float32, out: Array) -> None:
    """Add seven sums of a block of second moments to a row."""
    low, high = _bits_range(vb)
    zeros, nonfinite = np.int32(0), np.int32(0)
    if low >= SMALLEST_NORMAL_BITS and high < INFINITY:
        peak = high
        e = exponent_of(peak)
        total, logs, log_squares = _normal_sweep(v, vb, e)
        is_clear = below < float_of(low) and float_of(high) < above
    else:
        peak = finite_peak(vb)
        e = exponent_of(peak)
        total, logs, log_squares, zeros, nonfinite = _any_sweep(v, vb, e)
        is_clear = False
    n_positive = v.shape[0] - zeros - nonfinite
    c = e * 0.6931471805599453
    out[0] += total * 2.0**e
    out[1] = max(out[1], np.float64(magnitude_of(peak)))
    out[2] += np.float64(logs) + n_positive * c
    out[3] += log_squares + 2 * c * np.float64(logs) + n_positive * c * c
    out[4] += zeros
    out[5] += nonfinite
    out[6] += 0 if is_clear else _count_beyond(v, vb, below, above)

"""Counts of entries by the power of two below their magnitude, read off their exponent bits."""

from __future__ import annotations

import numpy as np
from numba.np.numpy_support import carray

from gradscope.native.bits import (
    MAGNITUDE,
    SMALLEST_NORMAL_BITS,
    bits_of,
    int32_array,
    int64_at,
)
from gradscope.native.compiler import Address, Array, Int32, Int64, Kernel, jit
from gradscope.native.jobs import blocks, job_of, next_part


@jit
def _count(row: Array, power: Int64, count: Int64, low: Int64, n_bins: Int64) -> None:
    if power < low:
        row[n_bins + 1] += count
    elif power >= low + n_bins:
        row[n_bins + 2] += count
    else:
        row[power - low] += count


@jit
def _count_zeros(bits: Array) -> Int32:
    zeros = np.int32(0)
    for i in range(bits.shape[0]):
        zeros = np.int32(zeros + np.int32(np.int32(bits[i] & MAGNITUDE) == 0))
    return zeros


@jit
def _count_denormals(bits: Array, row: Array, low: Int64, n_bins: Int64) -> None:
    for i in range(bits.shape[0]):
        b = np.int32(bits[i] & MAGNITUDE)
        if np.int32(0) < b < SMALLEST_NORMAL_BITS:
            exponent = np.int32(bits_of(np.float32(b)) >> np.int32(23))  # of a whole number
            _count(row, exponent - 127 - 149, 1, low, n_bins)


@jit
def _add_part(
    table: Array, numel: Array, first: Int64, last: Int64, low: Int64, high: Int64, out: Array
) -> None:
    # Counts go to four tables in turn: neighbours often fall into one bin and would wait.
    n_bins = high - low + 1
    counts = np.zeros((4, 256), np.int32)  # by exponent bits; denormals apart
    for item, start, stop in blocks(numel, first, last, 65536):
        n, at = stop - start, 4 * start
        bits = int32_array(table[item, 0] + at, n)
        counts[:] = 0
        for i in range(n):
            counts[i & 3, (bits[i] >> 23) & 0xFF] += 1
        row = out[item]
        for exponent in range(1, 255):
            total = counts[0, exponent] + counts[1, exponent] + counts[2, exponent]
            _count(row, exponent - 127, total + counts[3, exponent], low, n_bins)
        row[n_bins + 3] += counts[0, 255] + counts[1, 255] + counts[2, 255] + counts[3, 255]
        small = counts[0, 0] + counts[1, 0] + counts[2, 0] + counts[3, 0]
        zeros = _count_zeros(bits) if small else 0
        row[n_bins] += zeros
        if small > zeros:
            _count_denormals(bits, row, low, n_bins)


@Kernel
def log2_counts(data: Address) -> None:
    """Fill rows of `sums.log2_counts`; tables hold the tensor, ``extra`` first and last bin."""
    bins = carray(int64_at(job_of(data).extra), 2)
    table, numel, first, last, out = next_part(data, 1)
    while first < last:
        _add_part(table, numel, first, last, bins[0], bins[1], out)
        table, numel, first, last, out = next_part(data, 1)

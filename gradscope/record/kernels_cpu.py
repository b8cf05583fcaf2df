"""One compiled pass over float32 tensors in memory: the raw sums of `measures`, at full bandwidth.

Tensors come as addresses, so that one call covers all parameters and leaves Python out of it.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from gradscope.record.blocks_cpu import (
    OPTIONS,
    gradient_block,
    moment_block,
    square_block,
    update_block,
)

BLOCK = 1024
"""Entries summed in float32 before they are added in float64."""


@intrinsic
def _floats(_context, address):
    """Turn an address into a pointer to float32."""
    return _pointer(types.float32)


@intrinsic
def _bits(_context, address):
    """Turn an address into a pointer to int32."""
    return _pointer(types.int32)


def _pointer(item):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(item)(types.int64), codegen


@njit(**OPTIONS)
def gradients(table, numel, first, last, out):
    """Sum gradients (`measures.GRADIENT_SUMS`) of the entries ``first`` to ``last`` of all tensors.

    Parameters
    ----------
    table : array, int64, (tensor, 3)
        Addresses of gradient, parameter and the copy to make (0: none).
    numel : array, int64, (tensor,)
    first, last : int
        Range over the concatenation of all tensors.
    out : array, float64, (tensor, 9)
        Added to; maxima by maximum.
    """
    e = 0
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        g, gb = carray(_floats(table[item, 0] + at), n), carray(_bits(table[item, 0] + at), n)
        p, pb = carray(_floats(table[item, 1] + at), n), carray(_bits(table[item, 1] + at), n)
        e = gradient_block(g, gb, p, pb, e, out[item])
        if table[item, 2] != 0:
            copy = carray(_floats(table[item, 2] + at), n)
            for i in range(n):
                copy[i] = p[i]


@njit(**OPTIONS)
def updates(table, numel, first, last, out):
    """Sum updates (`measures.UPDATE_SUMS`); ``table`` holds before, after, gradient; see above."""
    ue, ge = 0, 0
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        before = carray(_floats(table[item, 0] + at), n)
        after = carray(_floats(table[item, 1] + at), n)
        g, gb = carray(_floats(table[item, 2] + at), n), carray(_bits(table[item, 2] + at), n)
        ue, ge = update_block(before, after, g, gb, ue, ge, out[item])


@njit(**OPTIONS)
def moments(table, numel, first, last, below, above, out):
    """Sum moments (`measures.MOMENT_SUMS`); ``table`` holds second and first moment (0: none)."""
    ve, me = 0, 0
    m_sums = np.zeros(6)
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        v, vb = carray(_floats(table[item, 0] + at), n), carray(_bits(table[item, 0] + at), n)
        ve = moment_block(v, vb, below[item], above[item], ve, out[item])
        if table[item, 1] != 0:
            m, mb = carray(_floats(table[item, 1] + at), n), carray(_bits(table[item, 1] + at), n)
            m_sums[1] = 0.0
            me = square_block(m, mb, me, m_sums)
            out[item, 7] += m_sums[1]


@njit(**OPTIONS)
def outputs(address, first, last, out):
    """Sum a range of one tensor's entries (`measures.OUTPUT_SUMS`) into ``out`` (6,)."""
    e = 0
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        y, b = carray(_floats(address + 4 * start), n), carray(_bits(address + 4 * start), n)
        e = square_block(y, b, e, out)


@njit(**OPTIONS)
def octaves(table, numel, first, last, low, high, out):
    """Count entries by octave (`measures.octave_counts`), ``low`` to ``high``.

    ``table`` (tensor, 1) holds addresses, ``out`` is (tensor, high - low + 5). Counts go to four
    tables in turn, since neighbours often fall into one bin and would wait for each other.
    """
    n_bins = high - low + 1
    counts = np.zeros((4, 256), np.int32)  # by exponent bits; denormals apart
    for item, start, stop in _blocks(numel, first, last, 65536):
        n, at = stop - start, 4 * start
        bits = carray(_bits(table[item, 0] + at), n)
        counts[:] = 0
        for i in range(n):
            counts[i & 3, (bits[i] >> 23) & 0xFF] += 1
        row = out[item]
        for exponent in range(1, 255):
            total = counts[0, exponent] + counts[1, exponent] + counts[2, exponent]
            _put(row, exponent - 127, total + counts[3, exponent], low, n_bins)
        row[n_bins + 3] += counts[0, 255] + counts[1, 255] + counts[2, 255] + counts[3, 255]
        if counts[0, 0] + counts[1, 0] + counts[2, 0] + counts[3, 0]:
            for i in range(n):
                b = bits[i] & np.int32(0x7FFFFFFF)
                if b == 0:
                    row[n_bins] += 1
                elif b < 0x00800000:
                    octave = -150
                    while b:
                        b >>= 1
                        octave += 1
                    _put(row, octave, 1, low, n_bins)


@njit(**OPTIONS)
def _put(row, octave, count, low, n_bins):
    if octave < low:
        row[n_bins + 1] += count
    elif octave >= low + n_bins:
        row[n_bins + 2] += count
    else:
        row[octave - low] += count


@njit(**OPTIONS)
def _blocks(numel, first, last, size=BLOCK):
    """Cut a range over concatenated tensors into (tensor, start, stop) of one block at most."""
    offset = 0
    for item in range(numel.shape[0]):
        start = max(first - offset, 0)
        end = min(last - offset, numel[item])
        while start < end:
            stop = min(start + size, end)
            yield item, start, stop
            start = stop
        offset += numel[item]

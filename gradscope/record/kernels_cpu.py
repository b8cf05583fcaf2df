"""One compiled pass over float32 tensors in memory: the raw sums of `measures`.

Tensors come as addresses, so that one call covers all parameters and leaves Python out of it. Work
goes in blocks that stay in the first-level cache: entries are scaled by the power of two near the
largest of the block before (``guess``) and summed in float32; a block whose own largest is far from
that is summed once more with its own; each block's sums are added in float64. So 1e-20 and 1e+15
come out right, and an entry costs a few float32 instructions. Second moments take their own block's
largest, since whether all are normal has to be known before their logarithms. Non-finite entries
are told by their bits.

All stands in one file, and only the functions that others call are cached: the cache looks at this
file alone, and a cached inner function would no longer be inlined, which changes the last bits.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

BLOCK = 512
"""Entries summed in float32 before they are added in float64."""
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_LN2 = np.float32(0.6931471805599453)
_SQRT_HALF = np.int32(0x3F3504F3)
"""Bits of sqrt(1/2)."""
_SMALLEST_NORMAL = np.float32(1.1754943508222875e-38)
_SMALLEST_NORMAL_BITS = np.int32(0x00800000)
_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "nsz", "contract", "arcp"},  # NaN and infinity stay what they are
}


@intrinsic
def _reinterpret(_context, x):
    """Bits of a float32 as int32."""
    return _bitcast(types.int32, types.float32)


@intrinsic
def _as_float(_context, bits):
    """Float32 with these bits."""
    return _bitcast(types.float32, types.int32)


def _bitcast(to, source):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(to))

    return to(source), codegen


@njit(**_OPTIONS)
def _exponent(peak):
    """Exponent e with 2**e near the magnitude of these bits, kept where 2**-e is normal."""
    return min(max((peak >> 23) - 127, -126), 126)


@njit(**_OPTIONS)
def _is_off(guess, peak):
    """Whether a block scaled by 2**-guess left the range that float32 fourth powers carry."""
    e = _exponent(peak)
    return e > guess + 20 or (e < guess - 12 and guess > -126)


@njit(**_OPTIONS)
def _finite(x, bits):
    return x if (bits & _MAGNITUDE) < _INFINITY else np.float32(0)


@njit(**_OPTIONS)
def _is_finite(bits):
    return np.int32(bits & _MAGNITUDE) < _INFINITY


@njit(**_OPTIONS)
def _finite_peak(bits):
    peak = np.int32(0)
    for i in range(bits.shape[0]):
        peak = np.int32(max(peak, _finite_bits(bits[i])))
    return peak


@njit(**_OPTIONS)
def _finite_bits(bits):
    b = np.int32(bits & _MAGNITUDE)
    return b if b < _INFINITY else np.int32(0)


@njit(**_OPTIONS)
def _from_bits(bits):
    """Value of the non-negative float32 with these bits."""
    exponent = bits >> 23
    mantissa = bits & 0x7FFFFF
    if exponent == 0:
        return mantissa * 2.0**-149
    return (mantissa + 0x800000) * 2.0 ** (exponent - 150)


@njit(**_OPTIONS)
def _gradient_sweep(g, gb, p, pb, e):
    s = np.float32(2.0**-e)
    total, absolute, square, fourth = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    dot, p_square = np.float32(0), np.float32(0)
    zeros, nonfinite, peak = np.int32(0), np.int32(0), np.int32(0)
    for i in range(g.shape[0]):
        b = np.int32(gb[i] & _MAGNITUDE)
        x = _finite(g[i], gb[i]) * s
        t = _finite(p[i], pb[i])
        q = x * x
        total += x
        absolute += abs(x)
        square += q
        fourth += q * q
        dot += x * t
        p_square += t * t
        zeros = np.int32(zeros + np.int32(b == 0))
        nonfinite = np.int32(nonfinite + np.int32(b >= _INFINITY))
        peak = np.int32(max(peak, _finite_bits(gb[i])))
    return total, absolute, square, fourth, dot, p_square, zeros, nonfinite, peak


@njit(**_OPTIONS)
def _gradient_block(g, gb, p, pb, guess, out):
    e = guess
    sums = _gradient_sweep(g, gb, p, pb, e)
    peak = sums[8]
    if _is_off(e, peak):
        e = _exponent(peak)
        sums = _gradient_sweep(g, gb, p, pb, e)
    scale = 2.0**e
    out[0] += sums[0] * scale
    out[1] += sums[1] * scale
    out[2] += sums[2] * scale**2
    out[3] += sums[3] * scale**4
    out[4] = max(out[4], np.float64(_from_bits(peak)))
    out[5] += sums[6]
    out[6] += sums[7]
    if 1e-30 < sums[5] < 1e30:
        out[7] += sums[4] * scale
        out[8] += sums[5]
    else:  # parameters beyond what float32 squares carry
        for i in range(g.shape[0]):
            t = np.float64(_finite(p[i], pb[i]))
            out[7] += np.float64(_finite(g[i], gb[i])) * t
            out[8] += t * t
    return _exponent(peak)


@njit(**_OPTIONS)
def _update_sweep(before, after, g, gb, ue, ge):
    us, gs = np.float32(2.0**-ue), np.float32(2.0**-ge)
    square, ug, up = np.float32(0), np.float32(0), np.float32(0)
    u_peak, g_peak = np.int32(0), np.int32(0)
    for i in range(before.shape[0]):
        moved = after[i] - before[i]
        bits = _reinterpret(moved)
        u = _finite(moved, bits) * us
        t = before[i] if abs(before[i]) < np.float32(1e30) else np.float32(0)
        square += u * u
        ug += u * (_finite(g[i], gb[i]) * gs)
        up += u * t
        u_peak = max(u_peak, _finite_bits(bits))
        g_peak = max(g_peak, _finite_bits(gb[i]))
    return square, ug, up, u_peak, g_peak


@njit(**_OPTIONS)
def _update_block(before, after, g, gb, ue, ge, out):
    sums = _update_sweep(before, after, g, gb, ue, ge)
    if _is_off(ue, sums[3]) or _is_off(ge, sums[4]):
        ue, ge = _exponent(sums[3]), _exponent(sums[4])
        sums = _update_sweep(before, after, g, gb, ue, ge)
    out[0] += sums[0] * 2.0 ** (2 * ue)
    out[1] += sums[1] * 2.0**ue * 2.0**ge
    out[2] += sums[2] * 2.0**ue
    return _exponent(sums[3]), _exponent(sums[4])


@njit(**_OPTIONS)
def _log_above(bits, origin):
    """Natural logarithm of the positive normal float32 with these bits, less that of 2**origin.

    x = 2**k f with sqrt(1/2) <= f < sqrt(2), and log f = 2 (t + t^3/3 + t^5/5 + t^7/7) for
    t = (f - 1) / (f + 1), whose next term is below 1e-7 of the sum.
    """
    shifted = np.int32(bits + (np.int32(0x3F800000) - _SQRT_HALF))
    k = np.int32(np.int32(shifted >> np.int32(23)) - np.int32(origin + np.int32(127)))
    f = _as_float(np.int32(np.int32(shifted & np.int32(0x7FFFFF)) + _SQRT_HALF))
    t = (f - np.float32(1)) / (f + np.float32(1))
    q = t * t
    series = np.float32(1 / 7) * q + np.float32(1 / 5)
    series = series * q + np.float32(1 / 3)
    series = series * q + np.float32(1)
    return np.float32(k) * _LN2 + np.float32(2) * t * series


@njit(**_OPTIONS)
def _bits_range(vb):
    low, high = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for i in range(vb.shape[0]):
        low, high = np.int32(min(low, vb[i])), np.int32(max(high, vb[i]))
    return low, high


@njit(**_OPTIONS)
def _normal_sweep(v, vb, e):
    """Sum v and its logarithm where all are normal, counted from 2**e for the square's digits."""
    s, origin = np.float32(2.0**-e), np.int32(e)
    total, logs, log_squares = np.float32(0), np.float32(0), np.float32(0)
    for i in range(v.shape[0]):
        log = _log_above(vb[i], origin)
        total += v[i] * s
        logs += log
        log_squares += log * log
    return total, logs, log_squares


@njit(**_OPTIONS)
def _any_sweep(v, vb, e):
    """`_normal_sweep` where some may be zero, denormal, negative or not finite."""
    s, origin = np.float32(2.0**-e), np.int32(e)
    total, logs, log_squares = np.float32(0), np.float32(0), np.float32(0)
    zeros, nonfinite = np.int32(0), np.int32(0)
    for i in range(v.shape[0]):
        b = np.int32(vb[i] & _MAGNITUDE)
        is_finite = b < _INFINITY
        x = v[i] if is_finite else np.float32(0)
        is_denormal = x < _SMALLEST_NORMAL
        raised = x * np.float32(16777216.0) if is_denormal else x
        start = np.int32(origin + np.int32(24)) if is_denormal else origin
        log = _log_above(_reinterpret(raised), start)
        log = log if x > np.float32(0) else np.float32(0)
        total += x * s
        logs += log
        log_squares += log * log
        zeros = np.int32(zeros + np.int32(b == 0))
        nonfinite = np.int32(nonfinite + np.int32(not is_finite))
    return total, logs, log_squares, zeros, nonfinite


@njit(**_OPTIONS)
def _count_beyond(v, vb, below, above):
    small = np.int32(0)
    for i in range(v.shape[0]):
        is_beyond = v[i] <= below or v[i] >= above
        small = np.int32(small + np.int32(_is_finite(vb[i]) and is_beyond))
    return small


@njit(**_OPTIONS)
def _moment_block(v, vb, below, above, out):
    low, high = _bits_range(vb)
    zeros, nonfinite = np.int32(0), np.int32(0)
    if low >= _SMALLEST_NORMAL_BITS and high < _INFINITY:
        peak = high
        e = _exponent(peak)
        total, logs, log_squares = _normal_sweep(v, vb, e)
        is_clear = below < _as_float(low) and _as_float(high) < above
    else:
        peak = _finite_peak(vb)
        e = _exponent(peak)
        total, logs, log_squares, zeros, nonfinite = _any_sweep(v, vb, e)
        is_clear = False
    n_positive = v.shape[0] - zeros - nonfinite
    c = e * 0.6931471805599453
    out[0] += total * 2.0**e
    out[1] = max(out[1], np.float64(_from_bits(peak)))
    out[2] += np.float64(logs) + n_positive * c
    out[3] += log_squares + 2 * c * np.float64(logs) + n_positive * c * c
    out[4] += zeros
    out[5] += nonfinite
    out[6] += 0 if is_clear else _count_beyond(v, vb, below, above)


@njit(**_OPTIONS)
def _square_sweep(x, bits, e):
    s = np.float32(2.0**-e)
    total, square = np.float32(0), np.float32(0)
    zeros, nonfinite, peak = np.int32(0), np.int32(0), np.int32(0)
    for i in range(x.shape[0]):
        b = np.int32(bits[i] & _MAGNITUDE)
        y = _finite(x[i], bits[i]) * s
        total += y
        square += y * y
        zeros = np.int32(zeros + np.int32(b == 0))
        nonfinite = np.int32(nonfinite + np.int32(b >= _INFINITY))
        peak = max(peak, _finite_bits(bits[i]))
    return total, square, zeros, nonfinite, peak


@njit(**_OPTIONS)
def _square_block(x, bits, guess, out):
    """Add sum, sum of squares, peak, zeros, non-finite entries and count to ``out`` (6,)."""
    e = guess
    sums = _square_sweep(x, bits, e)
    peak = sums[4]
    if _is_off(e, peak):
        e = _exponent(peak)
        sums = _square_sweep(x, bits, e)
    out[0] += sums[0] * 2.0**e
    out[1] += sums[1] * 2.0 ** (2 * e)
    out[2] = max(out[2], np.float64(_from_bits(peak)))
    out[3] += sums[2]
    out[4] += sums[3]
    out[5] += x.shape[0]
    return _exponent(peak)


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


@njit(cache=True, **_OPTIONS)
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
        e = _gradient_block(g, gb, p, pb, e, out[item])
        if table[item, 2] != 0:
            copy = carray(_floats(table[item, 2] + at), n)
            for i in range(n):
                copy[i] = p[i]


@njit(cache=True, **_OPTIONS)
def updates(table, numel, first, last, out):
    """Sum updates (`measures.UPDATE_SUMS`); ``table`` holds before, after, gradient; see above."""
    ue, ge = 0, 0
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        before = carray(_floats(table[item, 0] + at), n)
        after = carray(_floats(table[item, 1] + at), n)
        g, gb = carray(_floats(table[item, 2] + at), n), carray(_bits(table[item, 2] + at), n)
        ue, ge = _update_block(before, after, g, gb, ue, ge, out[item])


@njit(cache=True, **_OPTIONS)
def moments(table, numel, first, last, below, above, out):
    """Sum moments (`measures.MOMENT_SUMS`); ``table`` holds second and first moment (0: none)."""
    me = 0
    m_sums = np.zeros(6)
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        v, vb = carray(_floats(table[item, 0] + at), n), carray(_bits(table[item, 0] + at), n)
        _moment_block(v, vb, below[item], above[item], out[item])
        if table[item, 1] != 0:
            m, mb = carray(_floats(table[item, 1] + at), n), carray(_bits(table[item, 1] + at), n)
            m_sums[1] = 0.0
            me = _square_block(m, mb, me, m_sums)
            out[item, 7] += m_sums[1]


@njit(cache=True, **_OPTIONS)
def outputs(address, first, last, out):
    """Sum a range of one tensor's entries (`measures.OUTPUT_SUMS`) into ``out`` (6,)."""
    e = 0
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        y, b = carray(_floats(address + 4 * start), n), carray(_bits(address + 4 * start), n)
        e = _square_block(y, b, e, out)


@njit(cache=True, **_OPTIONS)
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
        small = counts[0, 0] + counts[1, 0] + counts[2, 0] + counts[3, 0]
        zeros = _count_zeros(bits) if small else 0
        row[n_bins] += zeros
        if small > zeros:
            _count_denormals(bits, row, low, n_bins)


@njit(**_OPTIONS)
def _count_zeros(bits):
    zeros = np.int32(0)
    for i in range(bits.shape[0]):
        zeros = np.int32(zeros + np.int32(np.int32(bits[i] & _MAGNITUDE) == 0))
    return zeros


@njit(**_OPTIONS)
def _count_denormals(bits, row, low, n_bins):
    for i in range(bits.shape[0]):
        b = np.int32(bits[i] & _MAGNITUDE)
        if np.int32(0) < b < np.int32(0x00800000):
            exponent = np.int32(_reinterpret(np.float32(b)) >> np.int32(23))  # of a whole number
            _put(row, exponent - 127 - 149, 1, low, n_bins)


@njit(**_OPTIONS)
def _put(row, octave, count, low, n_bins):
    if octave < low:
        row[n_bins + 1] += count
    elif octave >= low + n_bins:
        row[n_bins + 2] += count
    else:
        row[octave - low] += count


@njit(**_OPTIONS)
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

"""One compiled pass over float32 tensors in memory: the raw sums of `measures`.

Tensors come as addresses, so that one call covers all parameters and leaves Python out of it. Work
goes in blocks that stay in the first-level cache: entries are scaled by the power of two near the
largest of the block before (``guess``) and summed in float32; a block whose own largest is far from
that is summed once more with its own; each block's sums are added in float64. So 1e-20 and 1e+15
come out right, and an entry costs a few float32 instructions. Second moments take their own block's
largest, since whether all are normal has to be known before their logarithms. Non-finite entries
are told by their bits.

Others call the functions at the end, on any number of threads at once: each takes the next part of
the entries until there is none. A part has a table of sums of its own, so that which thread took it
shows nowhere.

All stands in one file, and only the functions that others call are cached: the cache looks at this
file alone, and a cached inner function would no longer be inlined, which changes the last bits.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import numpy as np
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

BLOCK = 512
"""Entries summed in float32 before they are added in float64."""
JOB = (
    "next",
    "n_parts",
    "n_entries",
    "n_tensors",
    "table",
    "numel",
    "out",
    "n_sums",
    "low",
    "high",
)
"""Words (int64) of what a function is called with, pointers among them: see `_part`."""
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


@njit(**_OPTIONS)
def _gradients(table, numel, first, last, out):
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


@njit(**_OPTIONS)
def _updates(table, numel, first, last, out):
    ue, ge = 0, 0
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        before = carray(_floats(table[item, 0] + at), n)
        after = carray(_floats(table[item, 1] + at), n)
        g, gb = carray(_floats(table[item, 2] + at), n), carray(_bits(table[item, 2] + at), n)
        ue, ge = _update_block(before, after, g, gb, ue, ge, out[item])


@njit(**_OPTIONS)
def _moments(table, numel, first, last, below, above, out):
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


@njit(**_OPTIONS)
def _outputs(table, numel, first, last, out):
    e = 0
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        y, b = carray(_floats(table[item, 0] + at), n), carray(_bits(table[item, 0] + at), n)
        e = _square_block(y, b, e, out[item])


@njit(**_OPTIONS)
def _octaves(table, numel, first, last, low, high, out):
    # Counts go to four tables in turn: neighbours often fall into one bin and would wait.
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


_CALLED = {"cache": True, "error_model": "numpy", "fastmath": _OPTIONS["fastmath"]}
_SIGNATURE = types.void(types.voidptr)


@intrinsic
def _words(_context, data):
    """Turn a void pointer into one to int64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.voidptr), codegen


@intrinsic
def _longs(_context, address):
    """Turn an address into a pointer to int64."""
    return _pointer(types.int64)


@intrinsic
def _doubles(_context, address):
    """Turn an address into a pointer to float64."""
    return _pointer(types.float64)


@intrinsic
def _take_next(_context, data):
    """Add 1 to the first word, for one thread at a time; return what it was."""

    def codegen(context, builder, signature, args):
        word = context.get_value_type(types.int64)
        pointer = builder.bitcast(args[0], word.as_pointer())
        return builder.atomic_rmw("add", pointer, word(1), "acq_rel")

    return types.int64(types.voidptr), codegen


@njit(**_OPTIONS)
def _part(data, width):
    """Take the next part of a job.

    Returns
    -------
    table : array, int64, (tensor, width)
        Addresses of tensors that belong together.
    numel : array, int64, (tensor,)
    first, last : int
        Range over the concatenation of all tensors; empty when no part is left.
    out : array, float64, (tensor, n_sums)
        Of this part alone: to be added to, maxima by maximum.
    """
    job = carray(_words(data), len(JOB))
    n_parts, n, n_tensors = job[1], job[2], job[3]
    part = min(_take_next(data), n_parts)
    first = n * part // n_parts // BLOCK * BLOCK if part < n_parts else n
    last = n * (part + 1) // n_parts // BLOCK * BLOCK if part + 1 < n_parts else n
    table = carray(_longs(job[4]), (n_tensors, width))
    numel = carray(_longs(job[5]), n_tensors)
    out = carray(
        _doubles(job[6] + 8 * min(part, n_parts - 1) * n_tensors * job[7]), (n_tensors, job[7])
    )
    return table, numel, first, last, out


@cfunc(_SIGNATURE, **_CALLED)
def gradients(data):
    """Sum `measures.GRADIENT_SUMS`; tables hold gradient, parameter, the copy to make (0: none)."""
    table, numel, first, last, out = _part(data, 3)
    while first < last:
        _gradients(table, numel, first, last, out)
        table, numel, first, last, out = _part(data, 3)


@cfunc(_SIGNATURE, **_CALLED)
def updates(data):
    """Sum `measures.UPDATE_SUMS`; tables hold parameter before and after, gradient."""
    table, numel, first, last, out = _part(data, 3)
    while first < last:
        _updates(table, numel, first, last, out)
        table, numel, first, last, out = _part(data, 3)


@cfunc(_SIGNATURE, **_CALLED)
def moments(data):
    """Sum `measures.MOMENT_SUMS`; tables hold second and first moment (0: none).

    ``low`` and ``high`` are addresses of float32 thresholds, one a tensor.
    """
    job = carray(_words(data), len(JOB))
    below, above = carray(_floats(job[8]), job[3]), carray(_floats(job[9]), job[3])
    table, numel, first, last, out = _part(data, 2)
    while first < last:
        _moments(table, numel, first, last, below, above, out)
        table, numel, first, last, out = _part(data, 2)


@cfunc(_SIGNATURE, **_CALLED)
def outputs(data):
    """Sum `measures.OUTPUT_SUMS`; tables hold the tensor."""
    table, numel, first, last, out = _part(data, 1)
    while first < last:
        _outputs(table, numel, first, last, out)
        table, numel, first, last, out = _part(data, 1)


@cfunc(_SIGNATURE, **_CALLED)
def octaves(data):
    """Fill `measures.octave_counts` from ``low`` to ``high``; tables hold the tensor."""
    job = carray(_words(data), len(JOB))
    table, numel, first, last, out = _part(data, 1)
    while first < last:
        _octaves(table, numel, first, last, job[8], job[9], out)
        table, numel, first, last, out = _part(data, 1)

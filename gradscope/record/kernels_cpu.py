"""One compiled pass over float32 tensors in memory: the raw sums of `measures`, at full bandwidth.

Tensors come as addresses, so that one call covers all parameters. Work goes in blocks that stay in
the first-level cache: a first sweep finds the largest magnitude, a second sums in float32 what was
scaled by it to at most 1, and each block's sums are added in float64. So 1e-20 and 1e+15 come out
right, and an entry costs a few float32 instructions. Non-finite entries are told by their bits.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

BLOCK = 1024
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_LN2 = np.float32(0.6931471805599453)
_SQRT2_MANTISSA = np.int32(0x3504F3)
_OPTIONS = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "nsz", "contract", "arcp"},  # NaN and infinity stay what they are
}


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
def _peak(bits):
    """Bits of the largest finite magnitude, and how many entries are not finite."""
    peak, nonfinite = np.int32(0), np.int32(0)
    for i in range(bits.shape[0]):
        b = bits[i] & _MAGNITUDE
        is_finite = b < _INFINITY
        nonfinite += np.int32(not is_finite)
        peak = max(peak, b if is_finite else np.int32(0))
    return peak, nonfinite


@njit(**_OPTIONS)
def _exponent(peak):
    """Exponent e with 2**e near the magnitude of these bits, kept where 2**-e is normal."""
    return min(max((peak >> 23) - 127, -126), 126)


@njit(**_OPTIONS)
def _finite(x, bits):
    return x if (bits & _MAGNITUDE) < _INFINITY else np.float32(0)


@njit(**_OPTIONS)
def _gradient_block(g, gb, p, pb, copy, has_copy, out):
    n = g.shape[0]
    peak, nonfinite = _peak(gb)
    e = _exponent(peak)
    s = np.float32(2.0**-e)
    total, absolute, square, fourth = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    dot, p_square, zeros = np.float32(0), np.float32(0), np.int32(0)
    for i in range(n):
        x = _finite(g[i], gb[i]) * s
        t = _finite(p[i], pb[i])
        q = x * x
        total += x
        absolute += abs(x)
        square += q
        fourth += q * q
        dot += x * t
        p_square += t * t
        zeros += np.int32((gb[i] & _MAGNITUDE) == 0)
    if has_copy:
        for i in range(n):
            copy[i] = p[i]
    scale = 2.0**e
    out[0] += total * scale
    out[1] += absolute * scale
    out[2] += square * scale**2
    out[3] += fourth * scale**4
    out[4] = max(out[4], np.float64(_from_bits(peak)))
    out[5] += zeros
    out[6] += nonfinite
    if p_square < 1e-30 or p_square > 1e30:  # parameters beyond what float32 squares carry
        dot64, p_square64 = 0.0, 0.0
        for i in range(n):
            t64 = np.float64(_finite(p[i], pb[i]))
            dot64 += np.float64(_finite(g[i], gb[i])) * t64
            p_square64 += t64 * t64
        out[7] += dot64
        out[8] += p_square64
    else:
        out[7] += dot * scale
        out[8] += p_square


@njit(**_OPTIONS)
def _from_bits(bits):
    """Value of the non-negative float32 with these bits."""
    exponent = bits >> 23
    mantissa = bits & 0x7FFFFF
    if exponent == 0:
        return mantissa * 2.0**-149
    return (mantissa + 0x800000) * 2.0 ** (exponent - 150)


@njit(**_OPTIONS)
def _update_block(before, after, g, gb, work, workb, out):
    n = before.shape[0]
    for i in range(n):
        work[i] = after[i] - before[i]
    u_peak, _ = _peak(workb)
    g_peak, _ = _peak(gb)
    ue, ge = _exponent(u_peak), _exponent(g_peak)
    us, gs = np.float32(2.0**-ue), np.float32(2.0**-ge)
    square, ug, up = np.float32(0), np.float32(0), np.float32(0)
    for i in range(n):
        u = _finite(work[i], workb[i]) * us
        square += u * u
        ug += u * (_finite(g[i], gb[i]) * gs)
        t = before[i] if abs(before[i]) < np.float32(1e30) else np.float32(0)
        up += u * t
    out[0] += square * 2.0 ** (2 * ue)
    out[1] += ug * 2.0**ue * 2.0**ge
    out[2] += up * 2.0**ue


@njit(**_OPTIONS)
def _moment_block(v, vb, m, mb, has_m, below, above, out):
    n = v.shape[0]
    peak, nonfinite = _peak(vb)
    e = _exponent(peak)
    s = np.float32(2.0**-e)
    total, small, zeros = np.float32(0), np.int32(0), np.int32(0)
    logs, log_squares = np.float32(0), np.float32(0)
    for i in range(n):
        b = vb[i]
        is_finite = (b & _MAGNITUDE) < _INFINITY
        x = v[i] if is_finite else np.float32(0)
        total += x * s
        zeros += np.int32((b & _MAGNITUDE) == 0)
        small += np.int32(is_finite and (x <= below or x >= above))
        is_denormal = b < np.int32(0x00800000)
        raised = x * np.float32(16777216.0)
        bits = _bits_of(raised, x, is_denormal)
        # v = 2**k * f with sqrt(1/2) <= f < sqrt(2); log v counted from the block's largest
        carry = np.int32((bits & np.int32(0x7FFFFF)) > _SQRT2_MANTISSA)
        k = (bits >> np.int32(23)) - np.int32(127) + carry
        f = _with_exponent(bits, carry)
        t = (f - np.float32(1)) / (f + np.float32(1))
        q = t * t
        series = np.float32(1 / 9)
        series = series * q + np.float32(1 / 7)
        series = series * q + np.float32(1 / 5)
        series = series * q + np.float32(1 / 3)
        series = series * q + np.float32(1)
        k -= np.int32(24) if is_denormal else np.int32(0)
        value = np.float32(k - np.int32(e)) * _LN2 + np.float32(2) * t * series
        value = value if x > np.float32(0) else np.float32(0)
        logs += value
        log_squares += value * value
    n_positive = 0
    for i in range(n):
        n_positive += np.int32(vb[i] > 0 and vb[i] < _INFINITY)
    c = e * 0.6931471805599453
    out[0] += total * 2.0**e
    out[1] = max(out[1], np.float64(_from_bits(peak)))
    out[2] += logs + n_positive * c
    out[3] += log_squares + 2 * c * logs + n_positive * c * c
    out[4] += zeros
    out[5] += nonfinite
    out[6] += small
    if has_m:
        out[7] += _square_sum(m, mb)


@intrinsic
def _reinterpret(_context, x):
    """Bits of a float32 as int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


@intrinsic
def _as_float(_context, b):
    """Float32 with these bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@njit(**_OPTIONS)
def _bits_of(raised, x, is_denormal):
    return _reinterpret(raised) if is_denormal else _reinterpret(x)


@njit(**_OPTIONS)
def _with_exponent(bits, carry):
    """Mantissa in [sqrt(1/2), sqrt(2)): exponent 0, or -1 with a carry."""
    exponent = (np.int32(127) - carry) << np.int32(23)
    return _as_float((bits & np.int32(0x7FFFFF)) | exponent)


@njit(**_OPTIONS)
def _square_sum(x, bits):
    peak, _ = _peak(bits)
    e = _exponent(peak)
    s = np.float32(2.0**-e)
    total = np.float32(0)
    for i in range(x.shape[0]):
        y = _finite(x[i], bits[i]) * s
        total += y * y
    return total * 2.0 ** (2 * e)


@njit(**_OPTIONS)
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
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        g, gb = carray(_floats(table[item, 0] + at), n), carray(_bits(table[item, 0] + at), n)
        p, pb = carray(_floats(table[item, 1] + at), n), carray(_bits(table[item, 1] + at), n)
        has_copy = table[item, 2] != 0
        copy = carray(_floats((table[item, 2] if has_copy else table[item, 1]) + at), n)
        _gradient_block(g, gb, p, pb, copy, has_copy, out[item])


@njit(**_OPTIONS)
def updates(table, numel, first, last, out):
    """Sum updates (`measures.UPDATE_SUMS`); ``table`` holds before, after, gradient; see above."""
    work = np.empty(BLOCK, np.float32)
    workb = work.view(np.int32)
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        before, after = (
            carray(_floats(table[item, 0] + at), n),
            carray(_floats(table[item, 1] + at), n),
        )
        g, gb = carray(_floats(table[item, 2] + at), n), carray(_bits(table[item, 2] + at), n)
        _update_block(before, after, g, gb, work[:n], workb[:n], out[item])


@njit(**_OPTIONS)
def moments(table, numel, first, last, below, above, out):
    """Sum moments (`measures.MOMENT_SUMS`); ``table`` holds second and first moment (0: none)."""
    for item, start, stop in _blocks(numel, first, last):
        n, at = stop - start, 4 * start
        v, vb = carray(_floats(table[item, 0] + at), n), carray(_bits(table[item, 0] + at), n)
        has_m = table[item, 1] != 0
        source = (table[item, 1] if has_m else table[item, 0]) + at
        m, mb = carray(_floats(source), n), carray(_bits(source), n)
        _moment_block(v, vb, m, mb, has_m, below[item], above[item], out[item])


@njit(**_OPTIONS)
def outputs(address, first, last, out):
    """Sum a range of one tensor's entries (`measures.OUTPUT_SUMS`) into ``out`` (6,)."""
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        y, b = carray(_floats(address + 4 * start), n), carray(_bits(address + 4 * start), n)
        _output_block(y, b, out)


@njit(**_OPTIONS)
def _output_block(y, bits, out):
    peak, nonfinite = _peak(bits)
    e = _exponent(peak)
    s = np.float32(2.0**-e)
    total, square, zeros = np.float32(0), np.float32(0), np.int32(0)
    for i in range(y.shape[0]):
        x = _finite(y[i], bits[i]) * s
        total += x
        square += x * x
        zeros += np.int32((bits[i] & _MAGNITUDE) == 0)
    out[0] += total * 2.0**e
    out[1] += square * 2.0 ** (2 * e)
    out[2] = max(out[2], np.float64(_from_bits(peak)))
    out[3] += zeros
    out[4] += nonfinite
    out[5] += y.shape[0]


@njit(**_OPTIONS)
def _blocks(numel, first, last):
    """Cut a range over concatenated tensors into (tensor, start, stop) of one block at most."""
    offset = 0
    for item in range(numel.shape[0]):
        start = max(first - offset, 0)
        end = min(last - offset, numel[item])
        while start < end:
            stop = min(start + BLOCK, end)
            yield item, start, stop
            start = stop
        offset += numel[item]

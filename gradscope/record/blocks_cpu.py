"""Sums of one block of float32 entries that stays in the first-level cache, compiled.

Entries are scaled by the power of two near the largest of the block before (``guess``) and summed
in float32; a block whose own largest is far from that is summed once more with its own; each
block's sums are added in float64. So 1e-20 and 1e+15 come out right, and an entry costs a few
float32 instructions. Non-finite entries are told by their bits.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_LN2 = np.float32(0.6931471805599453)
_SQRT2_MANTISSA = np.int32(0x3504F3)
OPTIONS = {
    "nogil": True,
    "cache": True,
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


@njit(**OPTIONS)
def _exponent(peak):
    """Exponent e with 2**e near the magnitude of these bits, kept where 2**-e is normal."""
    return min(max((peak >> 23) - 127, -126), 126)


@njit(**OPTIONS)
def _is_off(guess, peak):
    """Whether a block scaled by 2**-guess left the range that float32 fourth powers carry."""
    e = _exponent(peak)
    return e > guess + 20 or (e < guess - 12 and guess > -126)


@njit(**OPTIONS)
def _finite(x, bits):
    return x if (bits & _MAGNITUDE) < _INFINITY else np.float32(0)


@njit(**OPTIONS)
def _finite_bits(bits):
    b = bits & _MAGNITUDE
    return b if b < _INFINITY else np.int32(0)


@njit(**OPTIONS)
def _from_bits(bits):
    """Value of the non-negative float32 with these bits."""
    exponent = bits >> 23
    mantissa = bits & 0x7FFFFF
    if exponent == 0:
        return mantissa * 2.0**-149
    return (mantissa + 0x800000) * 2.0 ** (exponent - 150)


@njit(**OPTIONS)
def _gradient_sweep(g, gb, p, pb, e):
    s = np.float32(2.0**-e)
    total, absolute, square, fourth = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    dot, p_square = np.float32(0), np.float32(0)
    zeros, nonfinite, peak = np.int32(0), np.int32(0), np.int32(0)
    for i in range(g.shape[0]):
        b = gb[i] & _MAGNITUDE
        x = _finite(g[i], gb[i]) * s
        t = _finite(p[i], pb[i])
        q = x * x
        total += x
        absolute += abs(x)
        square += q
        fourth += q * q
        dot += x * t
        p_square += t * t
        zeros += np.int32(b == 0)
        nonfinite += np.int32(b >= _INFINITY)
        peak = max(peak, _finite_bits(gb[i]))
    return total, absolute, square, fourth, dot, p_square, zeros, nonfinite, peak


@njit(**OPTIONS)
def gradient_block(g, gb, p, pb, guess, out):
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


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def update_block(before, after, g, gb, ue, ge, out):
    sums = _update_sweep(before, after, g, gb, ue, ge)
    if _is_off(ue, sums[3]) or _is_off(ge, sums[4]):
        ue, ge = _exponent(sums[3]), _exponent(sums[4])
        sums = _update_sweep(before, after, g, gb, ue, ge)
    out[0] += sums[0] * 2.0 ** (2 * ue)
    out[1] += sums[1] * 2.0**ue * 2.0**ge
    out[2] += sums[2] * 2.0**ue
    return _exponent(sums[3]), _exponent(sums[4])


@njit(**OPTIONS)
def _log2_parts(x):
    """Split a positive float32 into k and f: x = 2**k * f with sqrt(1/2) <= f < sqrt(2)."""
    bits = _reinterpret(x)
    is_denormal = bits < np.int32(0x00800000)
    raised = _reinterpret(x * np.float32(16777216.0))
    bits = raised if is_denormal else bits
    carry = np.int32((bits & np.int32(0x7FFFFF)) > _SQRT2_MANTISSA)
    k = (bits >> np.int32(23)) - np.int32(127) + carry
    exponent = (np.int32(127) - carry) << np.int32(23)
    f = _as_float((bits & np.int32(0x7FFFFF)) | exponent)
    return k - (np.int32(24) if is_denormal else np.int32(0)), f


@njit(**OPTIONS)
def _moment_sweep(v, vb, below, above, e):
    """Sum v and its logarithm, the latter counted from 2**e so that its square keeps its digits."""
    s = np.float32(2.0**-e)
    total, logs, log_squares = np.float32(0), np.float32(0), np.float32(0)
    small, zeros, nonfinite, peak = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for i in range(v.shape[0]):
        b = vb[i] & _MAGNITUDE
        is_finite = b < _INFINITY
        x = v[i] if is_finite else np.float32(0)
        k, f = _log2_parts(x)
        t = (f - np.float32(1)) / (f + np.float32(1))
        q = t * t
        series = np.float32(1 / 9)
        series = series * q + np.float32(1 / 7)
        series = series * q + np.float32(1 / 5)
        series = series * q + np.float32(1 / 3)
        series = series * q + np.float32(1)
        log = np.float32(k - np.int32(e)) * _LN2 + np.float32(2) * t * series
        log = log if x > np.float32(0) else np.float32(0)
        total += x * s
        logs += log
        log_squares += log * log
        zeros += np.int32(b == 0)
        nonfinite += np.int32(not is_finite)
        small += np.int32(is_finite and (x <= below or x >= above))
        peak = max(peak, b if is_finite else np.int32(0))
    return total, logs, log_squares, zeros, nonfinite, small, peak


@njit(**OPTIONS)
def moment_block(v, vb, below, above, guess, out):
    e = guess
    sums = _moment_sweep(v, vb, below, above, e)
    peak = sums[6]
    if _is_off(e, peak):
        e = _exponent(peak)
        sums = _moment_sweep(v, vb, below, above, e)
    n_positive = v.shape[0] - sums[3] - sums[4]
    c = e * 0.6931471805599453
    logs = np.float64(sums[1])
    out[0] += sums[0] * 2.0**e
    out[1] = max(out[1], np.float64(_from_bits(peak)))
    out[2] += logs + n_positive * c
    out[3] += sums[2] + 2 * c * logs + n_positive * c * c
    out[4] += sums[3]
    out[5] += sums[4]
    out[6] += sums[5]
    return _exponent(peak)


@njit(**OPTIONS)
def _square_sweep(x, bits, e):
    s = np.float32(2.0**-e)
    total, square = np.float32(0), np.float32(0)
    zeros, nonfinite, peak = np.int32(0), np.int32(0), np.int32(0)
    for i in range(x.shape[0]):
        b = bits[i] & _MAGNITUDE
        y = _finite(x[i], bits[i]) * s
        total += y
        square += y * y
        zeros += np.int32(b == 0)
        nonfinite += np.int32(b >= _INFINITY)
        peak = max(peak, _finite_bits(bits[i]))
    return total, square, zeros, nonfinite, peak


@njit(**OPTIONS)
def square_block(x, bits, guess, out):
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

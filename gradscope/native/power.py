"""Real powers of float32 in a few instructions, as kernels need them.

v^alpha = 2^(alpha log2 v). With v = 2^k f, the product alpha k is exact if alpha is given in a part
of 12 leading bits and a rest (k has 8 bits). Its nearest integer becomes the exponent of the
result. What is left stays within about 1/2, where polynomials give log2 f and 2^r. So the error is
that of a few float32 roundings, however large alpha log2 v is. The order of operations matters: a
sum that is rounded before the integer is taken off would lose the digits.
"""

from __future__ import annotations

import numpy as np

from gradscope.native.bits import INFINITY, SMALLEST_NORMAL_BITS, bits_of, float_of
from gradscope.native.compiler import Float32, Int32, jit_in_order

LOWEST_MODERATE = np.int32((127 - 125) << 23)
HIGHEST_MODERATE = np.int32((127 + 125) << 23)
"""Bits of 2^-125 and 2^125: numbers between whose powers up to 1 and -1 are normal."""
_SQRT_HALF = np.int32(0x3F3504F3)
"""Bits of sqrt(1/2)."""
_ONE_LESS_SQRT_HALF = np.int32(0x3F800000 - 0x3F3504F3)
# Minimax polynomials by the Remez algorithm: log2(1 + q) / q, 3e-7 absolute in the logarithm on
# [sqrt(1/2) - 1, sqrt(2) - 1], and (2^r - 1) / r, 9e-8 relative in the power on [-1/2, 1/2].
_LOG2 = np.array(
    [
        1.442699670791626,
        -0.7213758826255798,
        0.48046502470970154,
        -0.3589618504047394,
        0.297262579202652,
        -0.27269792556762695,
        0.17063450813293457,
    ],
    dtype=np.float32,
)
_EXP2 = np.array(
    [
        0.6931470036506653,
        0.24022242426872253,
        0.05550733581185341,
        0.009671512991189957,
        0.001326472731307149,
    ],
    dtype=np.float32,
)


@jit_in_order
def _log2_over_distance(q: Float32) -> Float32:
    """Return log2(1 + q) / q for sqrt(1/2) <= 1 + q < sqrt(2)."""
    square = q * q
    p0 = _LOG2[1] * q + _LOG2[0]
    p2 = _LOG2[3] * q + _LOG2[2]
    p4 = _LOG2[6] * square + (_LOG2[5] * q + _LOG2[4])
    return (p4 * square + p2) * square + p0


@jit_in_order
def _exp2_of_fraction(r: Float32) -> Float32:
    """Return 2^r for -1/2 <= r <= 1/2."""
    square = r * r
    p0 = _EXP2[0] * r + np.float32(1)
    p2 = _EXP2[2] * r + _EXP2[1]
    p4 = _EXP2[4] * r + _EXP2[3]
    return (p4 * square + p2) * square + p0


@jit_in_order
def _factors(bits: Int32, bias: Int32, high: Float32, low: Float32) -> tuple[Float32, Int32]:
    """Return x and n with x * 2^n the power of the positive normal number with these bits.

    ``bias`` is what the exponent field exceeds the exponent by.
    """
    shifted = np.int32(bits + _ONE_LESS_SQRT_HALF)
    k = np.float32(np.int32(np.int32(shifted >> np.int32(23)) - bias))
    q = float_of(np.int32(np.int32(shifted & np.int32(0x7FFFFF)) + _SQRT_HALF)) - np.float32(1)
    whole = high * k
    rest = ((high + low) * q) * _log2_over_distance(q) + low * k
    n = np.rint(whole + rest)
    return _exp2_of_fraction((whole - n) + rest), np.int32(n)


@jit_in_order
def power_of_moderate(v: Float32, high: Float32, low: Float32) -> Float32:
    """Raise a float32 from 2^-125 to 2^125 to a power, as `power_of` does, in fewer instructions.

    Elsewhere the result means nothing.
    """
    x, n = _factors(bits_of(v), np.int32(127), high, low)
    return float_of(np.int32(bits_of(x) + np.int32(n << np.int32(23))))


@jit_in_order
def power_of(v: Float32, high: Float32, low: Float32) -> Float32:
    """Raise a float32 to a power other than 0.

    Parameters
    ----------
    v : float32
    high, low : float32
        The power, at most 1 in magnitude: its 12 leading bits and the rest.

    Returns
    -------
    float32
        Within 1e-6 of the exact power wherever that is a normal number, and within 1e-6 of the
        smallest normal number below. Zero and infinity give their limits; what is negative or
        NaN gives NaN.
    """
    bits = bits_of(v)
    is_denormal = bits < SMALLEST_NORMAL_BITS
    raised = v * np.float32(16777216.0) if is_denormal else v
    bias = np.int32(127 + 24) if is_denormal else np.int32(127)
    x, n = _factors(bits_of(raised), bias, high, low)
    half = np.int32(n >> np.int32(1))  # two factors reach denormals and infinity
    result = (x * _two_to(half)) * _two_to(np.int32(n - half))
    at_zero = np.float32(0) if high > np.float32(0) else np.float32(np.inf)
    at_infinity = np.float32(np.inf) if high > np.float32(0) else np.float32(0)
    limit = at_zero if v == np.float32(0) else np.float32(np.nan)
    limit = at_infinity if bits == INFINITY else limit
    return result if np.int32(0) < bits < INFINITY else limit


@jit_in_order
def _two_to(n: Int32) -> Float32:
    return float_of(np.int32(np.int32(n + np.int32(127)) << np.int32(23)))

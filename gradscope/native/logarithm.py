"""Logarithm of float32 in a few instructions, as kernels need it."""

from __future__ import annotations

import numpy as np

from gradscope.native.bits import float_of
from gradscope.native.compiler import Float32, Int32, jit

_LN2 = np.float32(0.6931471805599453)
_SQRT_HALF = np.int32(0x3F3504F3)
"""Bits of sqrt(1/2)."""


@jit
def log_above(bits: Int32, origin: Int32) -> Float32:
    """Natural logarithm of the positive normal float32 with these bits, less that of 2**origin.

    x = 2**k f with sqrt(1/2) <= f < sqrt(2), and log f = 2 (t + t^3/3 + t^5/5 + t^7/7) for
    t = (f - 1) / (f + 1), whose next term is below 1e-7 of the sum.
    """
    shifted = np.int32(bits + (np.int32(0x3F800000) - _SQRT_HALF))
    k = np.int32(np.int32(shifted >> np.int32(23)) - np.int32(origin + np.int32(127)))
    f = float_of(np.int32(np.int32(shifted & np.int32(0x7FFFFF)) + _SQRT_HALF))
    t = (f - np.float32(1)) / (f + np.float32(1))
    q = t * t
    series = np.float32(1 / 7) * q + np.float32(1 / 5)
    series = series * q + np.float32(1 / 3)
    series = series * q + np.float32(1)
    return np.float32(k) * _LN2 + np.float32(2) * t * series

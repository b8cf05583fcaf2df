"""Bits of float32 and addresses, as kernels need them.

Non-finite entries are told by their bits, since compilers reason wrongly about NaN once sums may
be reordered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray, from_dtype

from gradscope.native.compiler import Address, Array, Bool, Float32, Float64, Int32, Int64, jit

MAGNITUDE = np.int32(0x7FFFFFFF)
INFINITY = np.int32(0x7F800000)
SMALLEST_NORMAL_BITS = np.int32(0x00800000)
SMALLEST_NORMAL = np.float32(1.1754943508222875e-38)


def _bitcast(to: Any, source: Any) -> Any:
    def convert(_context: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(to))

        return to(source), codegen

    return intrinsic(convert)


def pointer_to(item: Any) -> Any:
    """Make a function for kernels that turns an address (int64) into a pointer.

    Parameters
    ----------
    item : numba type, or structured dtype
        What lies there.
    """
    make_pointer: Any = types.CPointer
    pointer = make_pointer(from_dtype(item) if isinstance(item, np.dtype) else item)

    def convert(_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(pointer))

        return pointer(types.int64), codegen

    return intrinsic(convert)


bits_of = _bitcast(types.int32, types.float32)
float_of = _bitcast(types.float32, types.int32)
int32_at = pointer_to(types.int32)
int64_at = pointer_to(types.int64)
float32_at = pointer_to(types.float32)
float64_at = pointer_to(types.float64)


@jit
def float32_array(address: Address, n: Int64) -> Array:
    """View n float32 at an address."""
    return carray(float32_at(address), n)


@jit
def int32_array(address: Address, n: Int64) -> Array:
    """View n int32 at an address, such as the bits of float32."""
    return carray(int32_at(address), n)


@jit
def finite_or_zero(x: Float32, bits: Int32) -> Float32:
    """Return x, or 0 where its bits say that it is not finite."""
    return x if (bits & MAGNITUDE) < INFINITY else np.float32(0)


@jit
def is_finite(bits: Int32) -> Bool:
    """Whether these are the bits of a finite float32."""
    return np.int32(bits & MAGNITUDE) < INFINITY


@jit
def finite_magnitude(bits: Int32) -> Int32:
    """Return the bits of the magnitude, 0 where not finite; they compare as magnitudes do."""
    b = np.int32(bits & MAGNITUDE)
    return b if b < INFINITY else np.int32(0)


@jit
def finite_peak(bits: Array) -> Int32:
    """Return the bits of the largest finite magnitude of an array."""
    peak = np.int32(0)
    for i in range(bits.shape[0]):
        peak = np.int32(max(peak, finite_magnitude(bits[i])))
    return peak


@jit
def magnitude_of(bits: Int32) -> Float64:
    """Value of the non-negative float32 with these bits, denormals included."""
    exponent = bits >> 23
    mantissa = bits & 0x7FFFFF
    if exponent == 0:
        return mantissa * 2.0**-149
    return (mantissa + 0x800000) * 2.0 ** (exponent - 150)


@jit
def exponent_of(peak: Int32) -> Int32:
    """Exponent e with 2**e near the magnitude of these bits, kept where 2**-e is normal."""
    return min(max((peak >> 23) - 127, -126), 126)


@jit
def is_out_of_range(guess: Int32, peak: Int32) -> Bool:
    """Whether a block scaled by 2**-guess left the range that float32 fourth powers carry."""
    e = exponent_of(peak)
    return e > guess + 20 or (e < guess - 12 and guess > -126)

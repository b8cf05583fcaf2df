"""What the Triton kernels of the recorder are made of: addresses, masks, folds, logarithms."""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201, RET505

from __future__ import annotations

import triton
import triton.language as tl

_LN2 = tl.constexpr(0.6931471805599453)
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def chunk(sizes, chunks, n_chunks, CHUNK: tl.constexpr):
    """Return tensor, first entry and number of entries of this program's chunk."""
    tensor = tl.load(chunks + tl.program_id(0))
    start = tl.load(chunks + n_chunks + tl.program_id(0)).to(tl.int64) * CHUNK
    left = tl.load(sizes + tensor) - start
    return tensor, start, tl.minimum(left, CHUNK).to(tl.int32)


@triton.jit
def pointer(address, KIND: tl.constexpr, IS_ALIGNED: tl.constexpr):
    """Read an address and say what lies there; on multiples of 16, loads become vectors."""
    pointer = tl.load(address).to(tl.pointer_type(KIND))
    if IS_ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def load(pointer, inside, IS_FULL: tl.constexpr):
    """Load a tile; zeros outside. A full one needs no mask, which would forbid vector loads."""
    if IS_FULL:
        return tl.load(pointer)
    else:
        return tl.load(pointer, mask=inside, other=0.0)


@triton.jit
def fold(x):
    """Add what one thread holds of a tile: four neighbours."""
    return tl.sum(tl.reshape(x, (x.shape[0] // 4, 4)), axis=1)


@triton.jit
def fold_max(x):
    """Take the largest of what one thread holds of a tile."""
    return tl.max(tl.reshape(x, (x.shape[0] // 4, 4)), axis=1)


@triton.jit
def widen(raw):
    """Convert to float32. Bits of bfloat16 by hand: triton's interpreter loses its denormals."""
    if raw.dtype == tl.bfloat16:
        return (raw.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        return raw.to(tl.float32)


@triton.jit
def finite(raw):
    """Return the values in float64, zero where not finite, and which are finite."""
    x = widen(raw)
    is_finite = tl.abs(x) < INFINITY
    return tl.where(is_finite, x, 0.0).to(tl.float64), is_finite


@triton.jit
def split(x):
    """Return exponent and mantissa bits of positive finite float32, denormals too: 2^k, 1 <= f < 2.

    The bits of a denormal, read as a whole number of 2^-149, are exact in float32.
    """
    bits = x.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    is_denormal = bits < 0x00800000
    bits = tl.where(is_denormal, bits.to(tl.float32).to(tl.int32, bitcast=True), bits)
    return (bits >> 23) - tl.where(is_denormal, 276, 127), bits & 0x7FFFFF


@triton.jit
def log_of(x):
    """Logarithm of positive float32 to about 1e-7, in float64; what comes of zero is not used."""
    k, mantissa = split(x)
    is_large = mantissa > 0x3504F3  # beyond sqrt(2): count from the next power of two
    exponent = tl.where(is_large, 126, 127)
    f = (mantissa | (exponent << 23)).to(tl.float32, bitcast=True)
    whole = (k + is_large.to(tl.int32)).to(tl.float64)
    return whole * _LN2 + tl.log(f).to(tl.float64)

"""Parts shared by the recorder's Triton kernels: addresses, masks, folds, logarithms.

One launch covers all parameters. Tensors come as a table of addresses and are cut into chunks of
`CHUNK` entries, one program each; `finish_kernel` adds a tensor's chunks in a fixed order, so
results repeat to the last bit. Sums are kept in float64: on a data-centre GPU (float64 at half the
rate of float32) that hides behind memory, where scaling by the chunk's largest power of two would
need the largest first and so a barrier for each tile; entries from 1e-45 to 3e38 then need no care
at all. On a consumer GPU (1:64) it should take about twice the time of reading, counting
instructions.

Runs on the CPU, slowly, where ``TRITON_INTERPRET=1`` is set before triton is imported.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN201, RET505

from __future__ import annotations

import triton
import triton.language as tl

CHUNK = 8192
"""Entries of one program: enough to pay for its start, few enough to fill a GPU with 1 M."""
TILE = 1024
"""Entries loaded at once by a program of `N_WARPS` warps."""
N_WARPS = 4
WIDTH = 16
"""Columns of a row of partial sums."""
FINISHED = 2048
"""Partial sums that `finish_kernel` loads at once."""
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

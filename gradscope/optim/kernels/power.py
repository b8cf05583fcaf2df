"""The second moment to the power alpha, fast and accurate in float32, from torch operators alone.

``exp2(alpha * log2(v))`` is the fastest, but its error grows with alpha: the rounding of
``log2(v)``, which reaches 149, is multiplied by it. ``torch.pow`` costs three times as much on some
processors and rounds its exponent to float32: up to 3e-6. So square roots, exact to the last bit,
take what they can of alpha, and what remains is small enough for the logarithm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EXP2_UP_TO = 0.2
"""Up to here exp2(rest * log2(v)) is within 1.9e-6 for every positive float32, denormals included:
1.14e-6 from log2, 0.66e-6 from the product, the last bits of exp2."""
_ROUNDED_UP_TO = 0.125
"""Up to here an exponent rounded to float32 is good enough: 0.39e-6 more of 0.71e-6 and 0.66e-6."""
_DENORMAL_FROM = 126 / 149
"""From here on the power of a float32 can be denormal."""


def power(v: Tensor, alpha: float) -> Tensor:
    """Raise a non-negative tensor to any real power.

    ``0^alpha`` is 0 for positive alpha, 1 for alpha = 0 and infinite for negative alpha, so that a
    quotient with it in the denominator is 0: never ``inf * 0``.

    Parameters
    ----------
    v : Tensor, float32 or float64, any shape
        Non-negative values; infinities and NaN go through as IEEE has them.
    alpha : float
        The exponent.

    Returns
    -------
    Tensor, like ``v``
        Within 2e-6 relative of the exact result wherever that is a normal float32, and within one
        denormal unit below; ``alpha = 0.5`` is ``v.sqrt()`` and ``alpha = 1`` is ``v``, bit for
        bit.

    >>> power(torch.tensor([0.0, 16.0]), -0.25)
    tensor([   inf, 0.5000])
    """
    size = abs(alpha)
    if size in (0, 1):
        result = torch.ones_like(v) if size == 0 else v.clone()
    elif v.dtype == torch.float64:
        return v.sqrt() if alpha == 0.5 else v.pow(alpha)
    elif size >= _DENORMAL_FROM:
        return v.double().pow(alpha).to(v.dtype)
    elif size <= _EXP2_UP_TO:
        return _by_logarithm(v, alpha)
    else:
        result = _by_roots(v, size)
    return result if alpha >= 0 else result.reciprocal_()


def split_alpha(alpha: float) -> tuple[float, float]:
    """Split alpha into 12 leading bits and the rest: the first times any exponent is exact.

    >>> split_alpha(0.25)
    (0.25, 0.0)
    """
    mantissa, exponent = math.frexp(alpha)
    high = math.ldexp(round(mantissa * 4096), exponent - 12)
    return high, alpha - high


def _by_roots(v: Tensor, size: float) -> Tensor:
    """Raise to a power above 0.2 and below 1: one or two square roots and a small rest."""
    root = v.sqrt()
    # v^a = v^(1/4) sqrt(v)^(2 a - 1/2), or v^(1/2) v^(a - 1/2): the rest is at most 0.2 either way.
    base, rest = (root, 2 * size - 0.5) if size < 0.3125 else (v, size - 0.5)
    result = root.sqrt() if size < 0.3125 else root
    if not rest:
        return result
    if rest > _EXP2_UP_TO:
        return result.mul_(_by_roots(base, rest))
    return result.mul_(_by_logarithm(base, rest, is_finite=rest < 0))


def _by_logarithm(v: Tensor, exponent: float, *, is_finite: bool = False) -> Tensor:
    """Return ``exp2(exponent * log2(v))``, where asked finite and above 0 for all but NaN."""
    logarithm = v.log2()
    high, low = _split(exponent) if abs(exponent) > _ROUNDED_UP_TO else (exponent, 0.0)
    # One rounding, that of the sum; an exponent rounded to float32 would add as much again.
    product = logarithm.mul(low).add_(logarithm, alpha=high) if low else logarithm.mul_(high)
    return (product.clamp_(-126, 126) if is_finite else product).exp2_()


def _split(exponent: float) -> tuple[float, float]:
    """Cut a number after the 24 bits of a float32; the parts have one sign, so inf stays inf.

    >>> _split(0.75)
    (0.75, 0.0)
    """
    mantissa, binary = math.frexp(exponent)
    high = math.ldexp(math.trunc(mantissa * 2**24), binary - 24)
    return high, exponent - high

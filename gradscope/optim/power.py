"""The second moment to the power alpha, fast and accurate in float32, from torch operators alone.

``exp2(alpha * log2(v))`` is the fastest, but multiplies the rounding of ``log2(v)``, which reaches
149, by alpha: up to 6e-6 relative at alpha = 1. ``torch.pow`` is as accurate as its exponent, which
it rounds to float32: up to 3e-6. So square roots, exact to the last bit, take the multiples of one
half, and what remains is small enough for the one or the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Up to here exp2(rest * log2(v)) is within 1e-6 for every positive float32, denormals included.
_EXP2_UP_TO = 0.125


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
        For ``|alpha| <= 1`` within 2e-6 relative of the exact result wherever that is a normal
        float32, and below within 2e-6 of the smallest normal; ``alpha = 0.5`` is ``v.sqrt()`` and
        ``alpha = 1`` is ``v``, bit for bit.

    >>> power(torch.tensor([0.0, 16.0]), -0.25)
    tensor([   inf, 0.5000])
    """
    if alpha == 0:
        return torch.ones_like(v)
    if v.dtype == torch.float64:
        return v.sqrt() if alpha == 0.5 else v.pow(alpha)
    if abs(alpha) <= _EXP2_UP_TO:
        return v.log2().mul_(alpha).exp2_()
    if abs(alpha) < 0.5:
        return v.sqrt().sqrt_() if alpha == 0.25 else v.pow(alpha)
    result = v.sqrt() if abs(alpha) < 1 else v.clone()
    rest = abs(alpha) - (0.5 if abs(alpha) < 1 else 1)
    if rest:
        result *= power(v, rest)
    return result if alpha > 0 else result.reciprocal_()

"""The second moment to the power alpha, accurate in float32, from ordinary torch operators.

``exp2(alpha * log2(v))`` alone loses accuracy twice: the rounding of ``log2(v)``, up to 149 in
size, and of ``alpha`` itself are multiplied by each other, up to 6e-6 relative at alpha = 1. So the
exponent is split, ``v^alpha = v^(k/4) * v^beta`` with ``|beta| <= 1/8``: quarters come from square
roots, which are exact to the last bit, and what is left for the logarithm is small.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

# Bounds of float32's positive finite numbers, denormals included: log2 of them is finite.
_SMALLEST, _LARGEST = 2.0**-149, 3.4028234663852886e38


def split_exponent(alpha: float) -> tuple[int, float]:
    """Split ``alpha >= 0`` into quarters and a rest.

    Returns
    -------
    tuple of int and float
        ``(k, beta)`` with ``alpha = k / 4 + beta`` and ``|beta| <= 1/8``.

    >>> split_exponent(0.5)
    (2, 0.0)
    >>> split_exponent(0.125)
    (0, 0.125)
    """
    quarters = round(4 * alpha)
    return quarters, alpha - quarters / 4


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
        float32; ``alpha = 0.5`` is ``v.sqrt()`` and ``alpha = 1`` is ``v``, bit for bit.

    >>> power(torch.tensor([0.0, 16.0]), -0.25)
    tensor([   inf, 0.5000])
    """
    if alpha < 0:
        return power(v, -alpha).reciprocal_()
    if alpha == 0:
        return torch.ones_like(v)
    if v.dtype == torch.float64:
        return v.pow(alpha)
    quarters, beta = split_exponent(alpha)
    factors = _quarters(v, quarters)
    if beta:
        # Below a quarter power the rest may bring the zero; above it must not meet it as 0 * inf.
        positive = v.clamp(_SMALLEST, _LARGEST) if beta < 0 else v
        factors.append(positive.log2().mul_(beta).exp2_())
    return reduce(torch.mul, factors)


def _quarters(v: Tensor, quarters: int) -> list[Tensor]:
    """Return factors of ``v^(quarters / 4)``: a whole power, a square root, a fourth root."""
    whole, quarters = divmod(quarters, 4)
    factors = [v.clone() if whole == 1 else v.pow(whole)] if whole else []
    if quarters:
        root = v.sqrt()
        factors += [root] if quarters & 2 else []
        factors += [root.sqrt()] if quarters & 1 else []
    return factors

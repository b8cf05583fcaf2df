"""The compiled power against float64, for every float32 where GRADSCOPE_EXHAUSTIVE is set."""

from __future__ import annotations

import os

import numpy as np
import pytest

from gradscope.native.bits import float32_array
from gradscope.native.compiler import Kernel, jit_in_order
from gradscope.native.jobs import blocks, job_of, next_part, run_job
from gradscope.native.power import HIGHEST_MODERATE, LOWEST_MODERATE, power_of, power_of_moderate
from gradscope.native.threads import Threads
from gradscope.optim.kernels.power import split_alpha

IS_EXHAUSTIVE = bool(os.environ.get("GRADSCOPE_EXHAUSTIVE"))
SMALLEST_NORMAL, LARGEST = 2.0**-126, float(np.finfo(np.float32).max)
SIZES = (1.0, 0.9999999, 0.9, 0.5001, 0.5, 0.3, 0.25, 0.1, 1e-3, 1e-8)
ALPHAS = [sign * size for size in SIZES for sign in (1, -1)]


@jit_in_order
def raise_parts(data, is_moderate):
    alpha = float32_array(job_of(data).extra, 2)
    table, numel, first, last, _ = next_part(data, 2)
    while first < last:
        for item, start, stop in blocks(numel, first, last):
            v = float32_array(table[item, 0] + 4 * start, stop - start)
            out = float32_array(table[item, 1] + 4 * start, stop - start)
            for i in range(v.shape[0]):
                if is_moderate:
                    out[i] = power_of_moderate(v[i], alpha[0], alpha[1])
                else:
                    out[i] = power_of(v[i], alpha[0], alpha[1])
        table, numel, first, last, _ = next_part(data, 2)


@Kernel
def raise_any(data):
    raise_parts(data, False)


@Kernel
def raise_moderate(data):
    raise_parts(data, True)


def power(v, alpha, kernel=raise_any):
    out = np.empty_like(v)
    table = np.array([[v.ctypes.data, out.ctypes.data]])
    parts = np.array(split_alpha(alpha), dtype=np.float32)
    run_job(kernel, Threads(), table, np.array([v.size]), extra=parts.ctypes.data)
    return out


class Largest:
    """Largest error found, relative to the exact power or to the smallest normal number."""

    def __init__(self, alpha):
        self.alpha, self.error = alpha, 0.0

    def check(self, bits, exact):
        """Compare both kernels with the exact powers of the float32 with these bits."""
        got = power(bits.view(np.float32), self.alpha)
        is_infinite = exact >= LARGEST
        assert (got[exact > LARGEST * (1 + 1e-6)] == np.inf).all()
        self._compare(got[~is_infinite], exact[~is_infinite])
        if bits[0] >= LOWEST_MODERATE and bits[-1] <= HIGHEST_MODERATE:
            self._compare(power(bits.view(np.float32), self.alpha, raise_moderate), exact)

    def _compare(self, got, exact):
        error = np.abs(got - exact) / np.maximum(exact, SMALLEST_NORMAL)
        self.error = max(self.error, error.max(initial=0))


def largest_error(mantissas, alpha):
    """Raise all positive float32 of these mantissas: v^alpha = (1 + f)^alpha * 2^(alpha k)."""
    largest = Largest(alpha)
    powers = np.exp2(alpha * np.log2(1 + mantissas * 2.0**-23))
    for exponent in range(1, 255):
        bits = (exponent << 23) + mantissas
        largest.check(bits.astype(np.int32), powers * 2.0 ** (alpha * (exponent - 127)))
    denormal = mantissas[mantissas > 0]
    largest.check(denormal.astype(np.int32), np.exp2(alpha * (np.log2(denormal) - 149)))
    return largest.error


@pytest.mark.parametrize("alpha", ALPHAS)
def test_power_is_accurate(alpha):
    meeting = 0x3504F3 + np.arange(-50, 50)  # sqrt(2), where the mantissa's halves meet
    drawn = np.random.default_rng(0).integers(0, 1 << 23, 200)
    mantissas = np.sort(
        np.concatenate([meeting, drawn, np.arange(20), (1 << 23) - 1 - np.arange(20)])
    )
    assert largest_error(mantissas, alpha) <= 1e-6


@pytest.mark.skipif(not IS_EXHAUSTIVE, reason="ten minutes; set GRADSCOPE_EXHAUSTIVE=1")
@pytest.mark.parametrize("alpha", ALPHAS)
def test_power_is_accurate_for_every_positive_float32(alpha):
    assert largest_error(np.arange(1 << 23), alpha) <= 1e-6


@pytest.mark.parametrize("alpha", [-1.0, -0.3, 0.1, 0.7])
def test_limits(alpha):
    v = np.array([0.0, 1.0, np.inf, np.nan, -1.0, -np.inf], np.float32)
    zero, one, infinity, *rest = power(v, alpha)
    assert (zero, one, infinity) == ((0, 1, np.inf) if alpha > 0 else (np.inf, 1, 0))
    assert np.isnan(rest).all()

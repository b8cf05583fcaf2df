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
INFINITY = 0x7F800000


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


def some_of_every_exponent():
    """64 mantissas of each of the 255 exponents, and all around where polynomials meet."""
    mantissas = np.random.default_rng(0).integers(0, 1 << 23, (255, 64))
    bits = (np.arange(255)[:, None] << 23) + mantissas
    meeting = 0x3F3504F3 + np.arange(-2000, 2000)
    return np.concatenate([bits.ravel(), meeting, np.arange(1, 2000)]).astype(np.int32)


def all_positive(block=1 << 24):
    for start in range(0, INFINITY, block):
        yield np.arange(start, min(start + block, INFINITY), dtype=np.int32)


def largest_error(bits, alpha):
    v = bits.view(np.float32)
    with np.errstate(over="ignore", divide="ignore"):
        exact = np.exp2(alpha * np.log2(v.astype(np.float64)))
    got = power(v, alpha)
    is_normal = (exact >= SMALLEST_NORMAL) & (exact < LARGEST * (1 - 2e-6))
    is_denormal = exact < SMALLEST_NORMAL
    relative = np.abs(got[is_normal] / exact[is_normal] - 1)
    assert np.abs(got[is_denormal] - exact[is_denormal]).max(initial=0) <= 1e-6 * SMALLEST_NORMAL
    assert (got[exact > LARGEST * (1 + 2e-6)] == np.inf).all()
    moderate = (bits >= LOWEST_MODERATE) & (bits <= HIGHEST_MODERATE)
    found = power(v[moderate], alpha, raise_moderate)
    relative_of_moderate = np.abs(found / exact[moderate] - 1)
    return max(relative.max(initial=0), relative_of_moderate.max(initial=0))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_power_is_accurate(alpha):
    bits = some_of_every_exponent()
    assert largest_error(bits, alpha) <= 1e-6


@pytest.mark.skipif(not IS_EXHAUSTIVE, reason="half an hour; set GRADSCOPE_EXHAUSTIVE=1")
@pytest.mark.parametrize("alpha", ALPHAS)
def test_power_is_accurate_for_every_positive_float32(alpha):
    assert max(largest_error(bits, alpha) for bits in all_positive()) <= 1e-6


@pytest.mark.parametrize("alpha", [-1.0, -0.3, 0.1, 0.7])
def test_limits(alpha):
    v = np.array([0.0, 1.0, np.inf, np.nan, -1.0, -np.inf], np.float32)
    zero, one, infinity, *rest = power(v, alpha)
    assert (zero, one, infinity) == ((0, 1, np.inf) if alpha > 0 else (np.inf, 1, 0))
    assert np.isnan(rest).all()

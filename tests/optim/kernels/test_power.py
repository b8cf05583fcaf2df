"""The power against numpy's extended precision."""

import numpy as np
import pytest
import torch

from gradscope.optim.kernels.power import power

SMALLEST_NORMAL = np.finfo(np.float32).tiny
SMALLEST = 2.0**-149
ALPHAS = (-1.0, -0.999, -0.7745, -0.69, -0.5, -0.3399, -0.3, -0.25, -0.2, -0.1, -1e-3)
BETWEEN = (0.1249, 0.1999, 0.2001, 0.3124, 0.3126, 0.4183, 0.843, 0.847, 1.5)


def every_kind_of_float32(n):
    rng = np.random.default_rng(0)
    normal = rng.integers(1, 0x7F800000, n)
    denormal = rng.integers(1, 0x00800000, n)
    return np.concatenate([normal, denormal, np.arange(1, 1000)]).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("alpha", [*ALPHAS, *(-a for a in ALPHAS), *BETWEEN])
def test_power_is_accurate(alpha):
    v = every_kind_of_float32(100_000)
    exact = np.exp(np.longdouble(alpha) * np.log(v.astype(np.longdouble)))
    got = power(torch.from_numpy(v), alpha).numpy().astype(np.longdouble)
    is_normal = (exact >= SMALLEST_NORMAL) & (exact < np.finfo(np.float32).max)
    is_denormal = exact < SMALLEST_NORMAL
    assert np.max(np.abs(got / exact - 1)[is_normal]) <= 2e-6
    assert np.all(np.abs(got - exact)[is_denormal] <= SMALLEST)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [0.05, 0.125, 0.2, 0.3, 0.45, 0.5, 0.6, 0.9, 1.0])
def test_limits(alpha, dtype):
    v = torch.tensor([0.0, 1.0, torch.inf, torch.nan], dtype=dtype)
    assert power(v, alpha)[:3].tolist() == [0.0, 1.0, torch.inf]
    assert power(v, -alpha)[:3].tolist() == [torch.inf, 1.0, 0.0]
    assert power(v, alpha)[3].isnan()
    assert power(v, -alpha)[3].isnan()
    assert power(v, 0.0).tolist() == [1.0] * 4


def test_half_and_whole_are_exact_and_new():
    v = torch.rand(1000)
    assert torch.equal(power(v, 0.5), v.sqrt())
    whole = power(v, 1.0)
    assert torch.equal(whole, v)
    assert whole.data_ptr() != v.data_ptr()

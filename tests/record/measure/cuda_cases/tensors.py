"""Tensors for the cases of the CUDA backend, over shapes, scales, dtypes and rubbish.

The cases are started by test_cuda_kernels.py in a process of their own: with TRITON_INTERPRET=1 on
tensors of the CPU, without it on a device.
"""

from __future__ import annotations

import os

import numpy as np
import torch

from gradscope.record.measure.reference.sums import PARAM_SUMS

INF = torch.inf
DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
if DEVICE.type == "cpu":
    import tests.interpreter  # noqa: F401
SHAPES = [(1,), (1025,), (0,), (5, 7, 3), (1024,), (8200,)]
# What other dtypes than float32 are tried on; the interpreter is slow.
HARD = ("mixed", "non-finite") + (() if DEVICE.type == "cpu" else ("tiny", "denormal"))
SPECIALS = {
    "plain": lambda g: g,
    "tiny": lambda g: g * 1e-20,
    "denormal": lambda g: g * 1e-41,
    "huge": lambda g: g * 1e15,
    "mixed": lambda g: g * torch.logspace(-12, 3, g.numel(), device=g.device).reshape(g.shape),
    "zeros": lambda g: g * (g > 0),
    "all zero": lambda g: g * 0,
    "non-finite": lambda g: torch.where(g > 1, INF, torch.where(g < -1, torch.nan, g)),
}
# dtypes of gradient, parameter and moments
DTYPES = {
    "float32": (torch.float32, torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16, torch.float16),
    "mixed": (torch.bfloat16, torch.float32, torch.float32),
}
EXACT = {"grad_abs_max", "moment_max"}


def make(shape, scale=1.0, seed=0, dtype=torch.float32):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return x.to(DEVICE, dtype)


def filled(backend, tensors):
    grads, params, after, v, m, below, above = tensors
    out = torch.full((len(grads) + 1, len(PARAM_SUMS)), torch.nan, dtype=torch.float64)
    out = out.to(DEVICE)
    rows = list(range(len(grads), 0, -1))
    copies = [torch.empty_like(p) for p in params]
    backend.gradients(out, rows, grads, params, copies)
    assert all(
        torch.equal(c.nan_to_num(7), p.nan_to_num(7)) for c, p in zip(copies, params, strict=True)
    )
    backend.updates(out, rows, copies, after, grads)
    backend.moments(out, rows, v, m, below, above)
    return out.cpu().numpy()


def assert_same(fast, exact, tensors):
    """Float64 throughout: 1e-12 of what was added up; logarithms to float32 rounding."""
    assert np.isnan(fast[0]).all() and np.array_equal(np.isnan(fast), np.isnan(exact))
    column = dict(zip(PARAM_SUMS, exact.T, strict=True))
    square = {name: np.sqrt(column[f"{name}_square_sum"]) for name in ("grad", "param", "update")}
    numel = np.array([0, *(g.numel() for g in tensors[0][::-1])])
    size = {
        "grad_sum": column["grad_abs_sum"],
        "grad_param_dot": square["grad"] * square["param"],
        "update_grad_dot": square["update"] * square["grad"],
        "update_param_dot": square["update"] * square["param"],
        "moment_log_sum": np.sqrt(column["moment_log_square_sum"] * numel),
    }
    for i, name in enumerate(PARAM_SUMS[:-1]):
        tolerance = 0.0 if "_n_" in name or name in EXACT else 3e-7 if "log" in name else 1e-12
        bound = np.nan_to_num(tolerance * np.abs(size.get(name, column[name])))
        error = np.nan_to_num(np.abs(fast[:, i] - exact[:, i]))
        assert (error <= bound).all(), (name, fast[:, i], exact[:, i])


def made(special, dtypes, shapes=SHAPES):
    grad, param, moment = dtypes
    grads = [SPECIALS[special](make(s, 1.0, i)).to(grad) for i, s in enumerate(shapes)]
    params = [make(s, 0.02, 100 + i, param) for i, s in enumerate(shapes)]
    steps = [torch.nan_to_num(g.float().clamp(-1, 1)).to(param) for g in grads]
    after = [p - 0.01 * step for p, step in zip(params, steps, strict=True)]
    v = [g.float().square().to(moment) for g in grads]
    m = [None if i in (1, 2) else (0.1 * g).to(moment) for i, g in enumerate(grads)]
    below = torch.full((len(grads),), 1e-6, dtype=torch.float64, device=DEVICE)
    above = torch.linspace(1.0, 2.0, len(grads), dtype=torch.float64, device=DEVICE)
    return grads, params, after, v, m, below, above

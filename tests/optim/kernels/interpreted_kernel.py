"""Run the CUDA kernel on CPU through triton's interpreter and compare it with `smes_update`.

Started by test_kernel.py with TRITON_INTERPRET=1, which triton reads when it is imported.
"""

import itertools

import torch

import tests.interpreter  # noqa: F401
from gradscope.optim.kernels.cuda_launch import update_triton
from gradscope.optim.update import smes_update

SIZES = (1, 5, 4096, 5000)


def compare(alpha, *, dtype=torch.float32, scaled=False, tensor_lr=False, **options):
    group = {
        "lr": 0.01,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "alpha": alpha,
        "weight_decay": 0.0,
        "decoupled_weight_decay": False,
        "bias_correction": True,
        "maximize": False,
        **options,
    }
    generator = torch.Generator().manual_seed(0)
    spread = [torch.randn(n, generator=generator) for n in SIZES]
    params = [x.to(dtype) for x in spread]
    grads = [(x * 10 ** (3 * x)).to(dtype) for x in spread]
    ms = [0.5 * g.float() for g in grads]
    vs = [g.float() ** 2 for g in grads]
    vs[1][:] = torch.tensor([0.0, 1e-40, 1e30, 1.0, 2.0])
    grads[1][0] = ms[1][0] = 0
    steps = [torch.tensor(3.0) for _ in SIZES]
    expected = [
        smes_update(p, g, exp_avg=m, exp_avg_sq=v, step=4.0, **group)
        for p, g, m, v in zip(params, grads, ms, vs, strict=True)
    ]
    scale = torch.tensor(8.0) if scaled else None
    if scaled:
        for g in grads:
            g *= 8
    if tensor_lr:
        group["lr"] = torch.tensor(0.01)
    found = torch.zeros(()) if scaled else None
    update_triton(group, params, grads, ms, vs, steps, scale, found)
    tolerance = 1e-6 if dtype == torch.float32 else 2**-7
    for p, m, v, e in zip(params, ms, vs, expected, strict=True):
        torch.testing.assert_close(p, e.param, rtol=tolerance, atol=1e-6)
        torch.testing.assert_close(m, e.exp_avg, rtol=1e-6, atol=0)
        torch.testing.assert_close(v, e.exp_avg_sq, rtol=1e-6, atol=1e-44)
    assert [s.item() for s in steps] == [4.0] * len(SIZES)


def skipped():
    p, g, m, v = (torch.ones(3) for _ in range(4))
    step = torch.tensor(3.0)
    group = {
        "lr": 0.1,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "alpha": 0.1,
        "weight_decay": 0.0,
        "decoupled_weight_decay": False,
        "bias_correction": True,
        "maximize": False,
    }
    update_triton(group, [p], [g], [m], [v], [step], torch.ones(()), torch.ones(()))
    assert p.tolist() == m.tolist() == v.tolist() == [1.0] * 3
    assert step.item() == 3.0


for alpha in (-1.0, -0.3, 0.0, 0.1, 0.45, 0.5, 0.9, 1.0):
    compare(alpha)
for decoupled, maximize in itertools.product((False, True), repeat=2):
    compare(0.1, weight_decay=0.1, decoupled_weight_decay=decoupled, maximize=maximize)
compare(-0.2, bias_correction=False)
compare(-0.2, dtype=torch.bfloat16)
compare(-0.2, scaled=True)
compare(-0.2, tensor_lr=True)
compare(-0.2, betas=(0.0, 0.9))
skipped()
print("equal")

"""Every path against the plain one, and what may drive an optimizer: scalers and compilers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import Adam

from gradscope.optim.kernels.paths import choose_path
from gradscope.optim.smes import SMES

PLAIN = {"foreach": False, "fused": False}


def pair_of_steps(shapes, dtype, options, path, *, seed=0, n_steps=1):
    """Parameters after steps by the plain path and, from equal state, one more by another."""
    torch.manual_seed(seed)
    starts = [torch.randn(s, dtype=torch.float64).to(dtype) for s in shapes]
    grads = [torch.randn(s, dtype=torch.float64).to(dtype) for s in shapes]
    results = []
    for chosen in (PLAIN, path):
        params = [torch.nn.Parameter(s.clone()) for s in starts]
        optimizer = SMES(params, **options, **PLAIN)
        for _ in range(n_steps):
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            optimizer.step()
        optimizer.param_groups[0].update(chosen)
        for p, g in zip(params, grads, strict=True):
            p.grad = 0.3 * g
        optimizer.step()
        results.append(params)
    return results


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    alpha=st.one_of(st.sampled_from([-0.5, 0.0, 0.5, 1.0]), st.floats(-1, 1)),
    decay=st.sampled_from([0.0, 0.1]),
    decoupled=st.booleans(),
    maximize=st.booleans(),
    correction=st.booleans(),
    path=st.sampled_from([{"foreach": True}, {"fused": True}, {"foreach": None, "fused": None}]),
)
def test_paths_agree(shapes, dtype, alpha, decay, decoupled, maximize, correction, path):
    options = {
        "lr": 0.01,
        "alpha": alpha,
        "weight_decay": decay,
        "decoupled_weight_decay": decoupled,
        "maximize": maximize,
        "bias_correction": correction,
    }
    path = {"foreach": None, "fused": None, **path}
    plain, other = pair_of_steps(shapes, dtype, options, path)
    # One unit in the last place of a half-precision parameter, else 1e-6.
    tolerance = {torch.float16: 2**-10, torch.bfloat16: 2**-7}.get(dtype, 1e-6)
    torch.testing.assert_close(other, plain, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("alpha", [-0.3, 0.0, 0.1, 0.5])
def test_pieces_of_large_and_transposed_tensors(alpha):
    shapes = [(300_000,), (3,), (500, 700), (70_000,)]
    plain, other = pair_of_steps(shapes, torch.float32, {"alpha": alpha}, {"foreach": True})
    torch.testing.assert_close(other, plain, rtol=1e-6, atol=1e-6)
    base = torch.randn(40, 30)
    steps = []
    for options in (PLAIN, {"foreach": True}, {"fused": True}, {}):
        p = torch.nn.Parameter(base.clone())
        p.grad = torch.arange(1200.0).reshape(30, 40).T / 1200
        SMES([p], alpha=alpha, **options).step()
        steps.append(p)
    for p in steps[1:]:
        torch.testing.assert_close(p, steps[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", [-1.0, -0.3, 0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("options", [PLAIN, {"foreach": True}, {}])
def test_nan_only_where_the_formula_has_it(alpha, options):
    g = torch.tensor([0.0, 1e-45, 1e-20, 1e-8, 1.0, 1e8, 1e18, 1e25, -1e25, torch.nan])
    p = torch.nn.Parameter(torch.ones(10))
    optimizer = SMES([p], lr=1e-3, alpha=alpha, **options)
    for _ in range(2):
        p.grad = g.clone()
        optimizer.step()
    # 1e25 squared is infinite in float32: a step of zero or, below alpha = 0, m / eps.
    assert p[:9].isnan().sum() == 0
    assert p[9].isnan()
    assert p[0] == 1.0


def test_the_fastest_path_is_the_default():
    params = [torch.ones(3)]
    group: dict[str, Any] = {"foreach": None, "fused": None, "capturable": False}
    group |= {"bias_correction": True, "decoupled_weight_decay": False}
    group |= {"eps": 1e-8, "weight_decay": 0.0}
    assert choose_path({**group, "alpha": 0.5}, params) == "adam"
    assert choose_path({**group, "alpha": 0.1}, params) == "compiled"
    assert choose_path({**group, "alpha": 1.1}, params) == "foreach"
    assert choose_path({**group, "alpha": 0.1}, [params[0].double()]) == "foreach"
    assert choose_path({**group, "alpha": 0.1, "foreach": True}, params) == "foreach"
    assert choose_path({**group, "alpha": 0.5, "foreach": False}, params) == "plain"
    assert choose_path({**group, "alpha": 0.5, "fused": False}, params) == "foreach"
    assert choose_path({**group, "alpha": 0.5, "foreach": True}, params) == "foreach"
    assert choose_path({**group, "alpha": 0.5}, params, is_uniform=False) == "compiled"
    assert choose_path({**group, "alpha": 0.5}, [params[0].half()]) == "foreach"
    assert choose_path({**group, "alpha": 0.1, "capturable": True}, params) == "compiled"
    on_device = {**group, "alpha": 0.1, "capturable": True}
    assert choose_path(on_device, [params[0].double()]) == "plain"


def test_steps_of_different_counts_share_a_group():
    def run(options):
        early, late = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
        optimizer = SMES([early, late], lr=0.1, alpha=0.1, **options)
        for step in range(3):
            early.grad = torch.arange(4.0) - 1.5
            late.grad = early.grad.clone() if step else None
            optimizer.step()
        return early, late

    torch.testing.assert_close(run({}), run(PLAIN), rtol=1e-6, atol=1e-6)


def test_capturable_equals_plain():
    options = {"alpha": -0.2, "weight_decay": 0.1, "decoupled_weight_decay": True}
    plain, other = pair_of_steps([(5,), (2, 3)], torch.float64, options, {"capturable": True})
    torch.testing.assert_close(other, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", [-0.2, 0.5])
@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("unscale_first", [False, True])
def test_grad_scaler(alpha, fused, unscale_first):
    p, twin = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    optimizer = SMES([p], lr=0.1, alpha=alpha, fused=fused)
    reference = SMES([twin], lr=0.1, alpha=alpha, **PLAIN)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
    for factor in (1.0, 2.0, torch.inf, 3.0):
        optimizer.zero_grad()
        scaler.scale((p.square() * factor).sum()).backward()
        if unscale_first:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        if factor != torch.inf:
            twin.grad = 2 * factor * twin.detach()
            reference.step()
    torch.testing.assert_close(p, twin, rtol=1e-6, atol=1e-6)
    assert optimizer.state[p]["step"].item() == 3
    assert scaler.get_scale() < 128  # the infinite step halved it


@pytest.mark.parametrize("alpha", [-0.2, 0.0, 0.5])
def test_torch_compile(alpha):
    torch.manual_seed(0)
    params, twins = ([torch.nn.Parameter(torch.ones(n)) for n in (3, 5)] for _ in range(2))
    compiled, eager = SMES(params, alpha=alpha, weight_decay=0.1), SMES(twins, alpha=alpha)
    eager.param_groups[0].update(PLAIN, weight_decay=0.1)
    torch._dynamo.reset()
    step = torch.compile(compiled.step, backend="aot_eager")
    for _ in range(3):
        for p, twin in zip(params, twins, strict=True):
            p.grad = torch.randn_like(p)
            twin.grad = p.grad.clone()
        step()
        eager.step()
    torch.testing.assert_close(params, twins, rtol=1e-6, atol=1e-6)
    assert [compiled.state[p]["step"].item() for p in params] == [3, 3]


def test_torch_compile_with_a_graft():
    p, twin = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    options = {"alpha": -0.2, "graft": "tensor", "scope": "residual"}
    compiled, eager = SMES([p], **options), SMES([twin], **options)
    torch._dynamo.reset()
    step = torch.compile(compiled.step, backend="eager")
    for _ in range(2):
        p.grad = twin.grad = torch.tensor([1.0, -2.0, 0.5])
        step()
        eager.step()
    torch.testing.assert_close(p, twin, rtol=1e-6, atol=1e-6)


def test_alternating_with_adam_keeps_its_state():
    p, twin = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    adam, smes = Adam([p], foreach=False), SMES([twin], **PLAIN)
    for _ in range(2):
        p.grad = twin.grad = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        adam.step()
        smes.step()
    assert set(adam.state[p]) == set(smes.state[twin])
    for name, value in adam.state[p].items():
        torch.testing.assert_close(smes.state[twin][name], value, rtol=0, atol=0)

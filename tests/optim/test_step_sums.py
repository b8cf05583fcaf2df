"""Sums that the step makes against those of separate passes, and the weights with and without."""

from __future__ import annotations

import copy

import pytest
import torch

from gradscope.optim.smes import SMES
from gradscope.optim.step_sums import MAXIMA, STEP_SUMS
from gradscope.record.measure.reference import sums as reference

SHAPES = ((3,), (1,), (511,), (64, 33, 3, 3), (4097,), (300, 700), (0,))
ALPHAS = (-1.0, -0.3, 0.0, 0.1, 0.25, 1.0)
N = len(STEP_SUMS)


def parameters(seed=0):
    torch.manual_seed(seed)
    params = [torch.nn.Parameter(0.05 * torch.randn(s)) for s in SHAPES]
    for p in params:
        p.grad = 1e-3 * torch.randn_like(p) * 10 ** (0.3 * torch.randn_like(p))
        p.grad[torch.rand_like(p) < 0.05] = 0
    return params


def asked(optimizer, params):
    n = len(params)
    out = torch.full((n, N + 1), torch.nan, dtype=torch.float64)
    below = torch.full((n,), 1e-10, dtype=torch.float64)
    above = torch.full((n,), 1e-8, dtype=torch.float64)
    return optimizer.sum_next_step(params, out, below, above)


def by_separate_passes(request, params, grads, before, optimizer):
    rows = []
    for i, (p, g, old) in enumerate(zip(params, grads, before, strict=True)):
        state = optimizer.state[p]
        edges = request.below[i], request.above[i]
        v, m = state["exp_avg_sq"], state["exp_avg"]
        parts = [
            reference.gradient_sums(g, old),
            reference.update_sums(old, p, g),
            reference.moment_sums(v, m, *edges),
        ]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def assert_sums(found, exact):
    """To float32 rounding of what was added up."""
    column = {name: exact[:, i] for i, name in enumerate(STEP_SUMS)}
    root = {name: column[f"{name}_square_sum"].sqrt() for name in ("grad", "param", "update")}
    count = torch.tensor([max(torch.Size(s).numel(), 1) for s in SHAPES])
    size = {
        "grad_sum": column["grad_abs_sum"],
        "grad_param_dot": root["grad"] * root["param"],
        "update_grad_dot": root["update"] * root["grad"],
        "update_param_dot": root["update"] * root["param"],
        "moment_log_sum": (column["moment_log_square_sum"] * count).sqrt(),
    }
    for i, name in enumerate(STEP_SUMS):
        tolerance = 0.0 if i in MAXIMA or "_n_" in name else 1e-6 if "log" in name else 4e-7
        bound = tolerance * size.get(name, column[name]).abs()
        assert ((found[:, i] - exact[:, i]).abs() <= bound).all(), name


def test_the_order_is_that_of_the_recorder():
    assert reference.PARAM_SUMS[:N] == STEP_SUMS
    assert {STEP_SUMS[i] for i in MAXIMA} == reference.MAXIMA & set(STEP_SUMS)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("decoupled", [False, True])
def test_sums_and_weights(alpha, decoupled):
    options = {"alpha": alpha, "weight_decay": 0.1, "decoupled_weight_decay": decoupled}
    params, twins = parameters(), parameters()
    optimizer, plain = SMES(params, lr=0.01, **options), SMES(twins, lr=0.01, **options)
    for step in range(4):
        for p, twin in zip(params, twins, strict=True):
            p.grad = twin.grad = p.grad.roll(step)
        before = [p.detach().clone() for p in params]
        grads = [p.grad.clone() for p in params]
        request = asked(optimizer, params)
        optimizer.step()
        plain.step()
        assert request.accepted == request.filled == list(range(len(SHAPES)))
        exact = by_separate_passes(request, params, grads, before, optimizer)
        assert_sums(request.out[:, :N], exact)
        assert request.out[:, N].isnan().all()
        for p, twin in zip(params, twins, strict=True):
            assert torch.equal(p, twin)
            assert torch.equal(optimizer.state[p]["exp_avg_sq"], plain.state[twin]["exp_avg_sq"])


def test_a_request_is_for_one_step():
    params = parameters()
    optimizer = SMES(params, alpha=-0.1)
    request = asked(optimizer, params)
    optimizer.step()
    first = request.out.clone()
    optimizer.step()
    torch.testing.assert_close(request.out, first, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "options", [{"alpha": 0.5}, {"alpha": 0.1, "foreach": True}, {"alpha": 0.1, "graft": "tensor"}]
)
def test_other_paths_accept_nothing(options):
    params = parameters()
    optimizer = SMES(params, **options)
    request = asked(optimizer, params)
    optimizer.step()
    assert request.accepted == request.filled == []
    assert request.out.isnan().all()


def test_what_the_kernel_does_not_update_is_not_accepted():
    params = parameters()
    params[2].grad = None
    double = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    double.grad = torch.ones_like(double)
    foreign = torch.nn.Parameter(torch.ones(3))
    everything = [foreign, *params, double]
    optimizer = SMES([*params, double], alpha=-0.1)
    request = asked(optimizer, everything)
    optimizer.step()
    expected = [1, 2, 4, 5, 6, 7]
    assert sorted(request.accepted) == sorted(request.filled) == expected
    missing = [0, 3, 8]
    assert request.out[missing].isnan().all()


def test_a_step_that_the_scaler_skips_fills_nothing():
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = SMES([p], alpha=-0.2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for factor, filled in ((1.0, [0]), (torch.inf, [])):
        optimizer.zero_grad()
        scaler.scale((p.square() * factor).sum()).backward()
        request = asked(optimizer, [p])
        scaled = p.grad.clone()
        scaler.step(optimizer)
        scaler.update()
        assert request.filled == filled
        if filled:  # the gradient is that before it was unscaled
            total = request.out[0, STEP_SUMS.index("grad_sum")]
            assert float(total) == pytest.approx(float(scaled.sum()))


def test_an_open_request_is_not_copied():
    params = parameters()
    optimizer = SMES(params, alpha=-0.1)
    asked(optimizer, params)
    assert copy.deepcopy(optimizer)._request is None

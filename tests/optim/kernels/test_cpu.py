"""The CPU kernel against the formula in float64."""

from __future__ import annotations

import itertools

import pytest
import torch

from gradscope.optim.kernels import cpu_launch
from gradscope.optim.kernels.cpu_launch import update_compiled
from gradscope.optim.smes import SMES
from gradscope.optim.update import smes_update

SIZES = ((), (0,), (1,), (511,), (513,), (30, 70), (200_001,))
ALPHAS = (-1.0, -0.3, -0.1, 0.0, 0.1, 0.25, 0.5, 0.7, 1.0)
# How far one step may be from the same step in float64: its own rounding and the parameter's.
TOLERANCE = 1e-6


def state(shapes, seed=0, sign=1):
    """Parameters, gradients over ten orders of magnitude, and moments that fit them.

    Signs are those of the parameter, the gradient's times ``sign``, so that nothing cancels.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(5)]
    params, grads, spread, first, second = draws
    grads = [
        sign * p.sign() * g.abs() * 10 ** (2 * x)
        for p, g, x in zip(params, grads, spread, strict=True)
    ]
    ms = [0.5 * sign * g * x.abs() for g, x in zip(grads, first, strict=True)]
    vs = [g.square() * (1 + x.square()) for g, x in zip(grads, second, strict=True)]
    return params, grads, ms, vs, [torch.tensor(3.0) for _ in shapes]


def group_of(alpha, **options):
    return {
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


def expected(group, params, grads, ms, vs, steps):
    """The step of each tensor in float64."""
    return [
        smes_update(
            p.double(),
            g.double(),
            exp_avg=m.double(),
            exp_avg_sq=v.double(),
            step=step.item() + 1,
            **group,
        )
        for p, g, m, v, step in zip(params, grads, ms, vs, steps, strict=True)
    ]


def assert_step(group, lists):
    """The compiled step equals the formula; relative to the size of the step and parameter."""
    before = [p.clone() for p in lists[0]]
    exact = expected(group, *lists)
    update_compiled(group, *(*lists, None))
    params, _, ms, vs, steps = lists
    for p, m, v, old, e in zip(params, ms, vs, before, exact, strict=True):
        torch.testing.assert_close(m.double(), e.exp_avg, rtol=1e-6, atol=1e-40)
        torch.testing.assert_close(v.double(), e.exp_avg_sq, rtol=1e-6, atol=1e-40)
        step = (e.param - old.double()).abs()
        bound = TOLERANCE * (step + old.double().abs())
        assert ((p.double() - e.param).abs() <= bound).all()
    assert {step.item() for step in steps} == {4.0}


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("decay", "decoupled"), [(0.0, False), (0.1, False), (0.1, True)])
def test_a_step_is_the_formula(alpha, decay, decoupled):
    for maximize, correction in itertools.product((False, True), repeat=2):
        options = {"maximize": maximize, "bias_correction": correction}
        group = group_of(alpha, weight_decay=decay, decoupled_weight_decay=decoupled, **options)
        assert_step(group, state(SIZES, sign=-1 if maximize else 1))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_blocks_of_unusual_second_moments(alpha):
    """Zeros, denormals and huge numbers among ordinary ones, in one block, in whole blocks."""
    params, grads, ms, vs, steps = state([(4096,), (4096,), (4096,)])
    with torch.no_grad():
        for tensors in (grads, ms, vs):
            tensors[0][100:2000:7] = 0
            tensors[1][600:] = 0
        vs[2][:600], grads[2][:600], ms[2][:600] = 1e-41, 1e-23, 1e-22
        vs[2][2000:2500] = 1e38
    group = group_of(alpha, eps=1e-3)
    assert_step(group, [params, grads, ms, vs, steps])


@pytest.mark.parametrize("eps", [0.0, 1e-8, 5e-8, 1e-7, 1e-3])
@pytest.mark.parametrize("alpha", [-1.0, -0.3, -0.01])
def test_eps_at_negative_alpha(alpha, eps):
    """Where it is negligible it may be left out; large second moments make it matter."""
    params, grads, ms, vs, steps = state([(4096,), (4096,)])
    vs[1][::2] *= 1e6
    vs[1][1::2] *= 1e-6
    assert_step(group_of(alpha, eps=eps), [params, grads, ms, vs, steps])


def test_results_do_not_depend_on_the_number_of_threads():
    found = []
    before = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            lists = state([(300_007,), (5,)])
            update_compiled(group_of(-0.3), *(*lists, None))
            found.append(lists[0])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_layouts_and_dtypes_that_do_not_fit_go_through_foreach():
    shape = (4, 6, 5, 5)
    base = torch.randn(shape)
    kinds = {
        "plain": base.clone(),
        "channels last": base.to(memory_format=torch.channels_last),
        "gaps": torch.randn(8, 12)[:, ::2],
        "double": base.double(),
        "half": base.bfloat16(),
        "offset": torch.randn(1001)[1:],
    }
    results = []
    for options in ({}, {"foreach": False, "fused": False}):
        params = [
            torch.nn.Parameter(t.clone(memory_format=torch.preserve_format)) for t in kinds.values()
        ]
        for p in params:
            p.grad = torch.cos(p.detach().contiguous())
        SMES(params, alpha=0.1, weight_decay=0.1, **options).step()
        results.append(params)
    for name, fast, plain in zip(kinds, *results, strict=True):
        tolerance = 2**-7 if name == "half" else 1e-6
        torch.testing.assert_close(fast, plain, rtol=tolerance, atol=tolerance)


def test_infinite_parameters_without_decay_stay_infinite():
    p = torch.nn.Parameter(torch.tensor([torch.inf, 1.0]))
    p.grad = torch.tensor([1.0, 1.0])
    SMES([p], alpha=-0.1).step()
    assert p[0] == torch.inf and torch.isfinite(p[1])


def test_a_step_is_seen_by_autograd():
    """A tensor saved for a backward pass that a step changed is refused, as after torch's own."""
    for alpha in (0.5, 0.1):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = SMES([p], alpha=alpha)
        loss = (p * p).sum()
        p.grad = torch.ones(3)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_without_a_compiler_foreach_serves_with_one_warning(monkeypatch):
    def broken(*choice):
        raise RuntimeError("no compiler for this processor")

    monkeypatch.setattr(cpu_launch, "_kernel", broken)
    cpu_launch._compiles.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="no compiler for this processor") as warned:
            for _ in range(3):
                p = torch.nn.Parameter(torch.ones(3))
                p.grad = torch.ones(3)
                SMES([p], lr=0.1, alpha=0.1).step()
        assert len(warned) == 1
        assert p.detach().tolist() == pytest.approx([0.9] * 3)
    finally:
        cpu_launch._compiles.cache_clear()

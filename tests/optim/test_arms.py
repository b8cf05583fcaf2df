"""Scopes and grafts against their definitions, written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradscope.optim.smes import SMES

GRADS = (np.array([0.5, -2.0, 0.0]), np.array([[1e-3, 4.0], [-3e-2, 1e-1]]))
ALPHA, EPS, LR = -0.3, 1e-3, 0.1


def updates(**options):
    """The first step's updates, in which m_hat = g and v_hat = g^2."""
    params = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in GRADS]
    optimizer = SMES(params, lr=LR, eps=EPS, **{"alpha": ALPHA, **options})
    for p, g in zip(params, GRADS, strict=True):
        p.grad = torch.from_numpy(g).clone()
    optimizer.step()
    return [p.detach().numpy() for p in params]


def direction(alpha, scope="element"):
    squares = [g**2 for g in GRADS]
    means = [np.exp(np.log(v[v > 0]).mean()) for v in squares]
    every = np.concatenate([v.ravel() for v in squares])
    scoped = {
        "element": squares,
        "tensor": means,
        "residual": [v / mean for v, mean in zip(squares, means, strict=True)],
        "global": [np.exp(np.log(every[every > 0]).mean())] * 2,
    }[scope]
    with np.errstate(divide="ignore"):
        powers = [np.asarray(s, dtype=float) ** alpha for s in scoped]
    return [-LR * g / (w + EPS) for g, w in zip(GRADS, powers, strict=True)]


def norm(arrays):
    return np.sqrt(sum((a**2).sum() for a in arrays))


@pytest.mark.parametrize("scope", ["tensor", "residual", "global"])
@pytest.mark.parametrize("alpha", [-0.3, 0.0, 0.4])
def test_scopes(scope, alpha):
    for got, expected in zip(
        updates(scope=scope, alpha=alpha), direction(alpha, scope), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("source", ["zero", "alpha"])
def test_grafts(source):
    own, other = direction(ALPHA), direction(0.0)
    if source == "alpha":
        own, other = other, own
    per_tensor = [norm([o]) / norm([d]) for o, d in zip(other, own, strict=True)]
    factors = {
        "global": [norm(other) / norm(own)] * 2,
        "tensor": per_tensor,
        "profile": [f * norm(own) / norm(other) for f in per_tensor],
    }
    for graft, expected in factors.items():
        got = updates(graft=graft, graft_from=source)
        for u, d, factor in zip(got, own, expected, strict=True):
            np.testing.assert_allclose(u, factor * d, rtol=1e-12)


def test_the_two_by_two_has_one_size():
    """Layer profile and direction, each of 0 or alpha, all at the norm of alpha = 0."""
    arms = [
        updates(alpha=0.0),
        updates(graft="global"),
        updates(graft="tensor"),
        updates(graft="profile", graft_from="alpha"),
    ]
    size = norm(direction(0.0))
    shares = [norm(u[:1]) / norm(u) for u in arms]
    for arm in arms:
        assert norm(arm) == pytest.approx(size, rel=1e-12)
    assert shares[0] == pytest.approx(shares[2], rel=1e-12)
    assert shares[1] == pytest.approx(shares[3], rel=1e-12)
    assert shares[0] != pytest.approx(shares[1], rel=1e-2)


def test_grafting_zero_on_zero_changes_nothing():
    plain = updates(alpha=0.0, foreach=False, fused=False)
    for graft in ("global", "tensor", "profile"):
        for got, expected in zip(updates(alpha=0.0, graft=graft), plain, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-14)


@pytest.mark.parametrize("options", [{"graft": "tensor"}, {"scope": "global"}])
def test_all_zero_gradients_move_nothing(options):
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = SMES([p], alpha=-0.2, **options)
    p.grad = torch.zeros(3)
    optimizer.step()
    assert p.tolist() == [1.0] * 3


def test_global_spans_groups_and_decay_stays_outside_the_norm():
    first, second = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [first], "lr": 0.2}, {"params": [second], "lr": 0.1}]
    optimizer = SMES(
        groups, alpha=0.5, eps=0.0, graft="global", weight_decay=0.5, decoupled_weight_decay=True
    )
    first.grad, second.grad = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    second.grad[0] = 2.0
    optimizer.step()
    # Directions are signs: sizes 0.2 and 0.1. At alpha = 0: 0.2 * (3, 4) and 0.1 * (2, 2).
    factor = np.sqrt((0.04 * 25 + 0.01 * 8) / (0.04 * 2 + 0.01 * 2))
    np.testing.assert_allclose(first.detach(), 1 - 0.1 - 0.2 * factor, rtol=1e-12)
    np.testing.assert_allclose(second.detach(), 1 - 0.05 - 0.1 * factor, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=2), min_size=2, max_size=5),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    alpha=st.floats(-1, 1),
    scope=st.sampled_from(["element", "tensor", "residual", "global"]),
    graft=st.sampled_from(["global", "tensor", "profile"]),
    seed=st.integers(0, 1000),
)
def test_grafted_norms_are_the_source_s(shapes, dtype, alpha, scope, graft, seed):
    def moves(**options):
        generator = torch.Generator().manual_seed(seed)
        params = [torch.nn.Parameter(torch.zeros(s, dtype=dtype)) for s in shapes]
        groups = [{"params": params[:1], "lr": 0.3}, {"params": params[1:]}]
        optimizer = SMES(groups, lr=0.1, **options)
        for _ in range(2):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator, dtype=dtype)
            before = [p.detach().clone() for p in params]
            optimizer.step()
        return [(p - b).detach().double().numpy() for p, b in zip(params, before, strict=True)]

    # Two steps of the same gradients; the moments do not depend on where the parameters went.
    got, zero = moves(alpha=alpha, scope=scope, graft=graft), moves(alpha=0.0)
    full = moves(alpha=alpha, scope=scope)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    if graft == "tensor":
        assert [norm([u]) for u in got] == pytest.approx([norm([u]) for u in zero], rel=tolerance)
    else:
        size = norm(zero) if graft == "global" else norm(full)
        assert norm(got) == pytest.approx(size, rel=tolerance)

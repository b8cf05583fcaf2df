"""SMES against torch's Adam, AdamW and SGD, and its contract as a torch optimizer."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch.optim import SGD, Adam, AdamW

from gradscope.optim.smes import SMES, smes_update

PLAIN = {"foreach": False, "fused": False}


def parameters(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(), (7,), (3, 5), (2, 3, 2, 2)]
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def train(optimizer_of, steps, *, dtype=torch.float64, seed=1):
    """Parameters after steps on gradients that depend on them and on the seed."""
    params = parameters(dtype)
    optimizer = optimizer_of(params)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            noise = torch.randn(p.shape, generator=generator, dtype=dtype)
            p.grad = torch.sin(3 * p.detach()) + 0.1 * noise
        optimizer.step()
    return params


def assert_equal(got, expected, tolerance=0.0):
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 0.0)])
def test_half_is_adam(dtype, tolerance, decay, maximize):
    options = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": decay, "maximize": maximize}
    for reference, decoupled in ((Adam, False), (AdamW, True)):
        expected = train(lambda p: reference(p, foreach=False, **options), 200, dtype=dtype)  # noqa: B023
        got = train(
            lambda p: SMES(p, decoupled_weight_decay=decoupled, **PLAIN, **options),  # noqa: B023
            200,
            dtype=dtype,
        )
        assert_equal(got, expected, tolerance)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_zero_without_correction_is_momentum_sgd(decay):
    expected = train(lambda p: SGD(p, lr=0.01, momentum=0.9, weight_decay=decay), 200)
    got = train(
        lambda p: SMES(
            p, lr=0.1, alpha=0.0, eps=0.0, bias_correction=False, weight_decay=decay, **PLAIN
        ),
        200,
    )
    assert_equal(got, expected, 1e-10)


def test_update_is_the_formula():
    theta, g, m, v = (torch.tensor([x], dtype=torch.float64) for x in (2.0, 0.5, 0.1, 0.04))
    got = smes_update(
        theta, g, exp_avg=m, exp_avg_sq=v, step=3, lr=0.1, betas=(0.9, 0.99), eps=1e-3, alpha=-0.3
    )
    m1, v1 = 0.9 * 0.1 + 0.1 * 0.5, 0.99 * 0.04 + 0.01 * 0.25
    m_hat, v_hat = m1 / (1 - 0.9**3), v1 / (1 - 0.99**3)
    assert got.exp_avg.item() == pytest.approx(m1, rel=1e-14)
    assert got.exp_avg_sq.item() == pytest.approx(v1, rel=1e-14)
    assert got.param.item() == pytest.approx(2 - 0.1 * m_hat / (v_hat**-0.3 + 1e-3), rel=1e-14)
    assert (theta.item(), m.item(), v.item()) == (2.0, 0.1, 0.04)


def test_zero_divides_by_exactly_one_plus_eps():
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    p.grad = torch.full_like(p, 3.0)
    SMES([p], lr=1.0, alpha=0.0, eps=0.25, **PLAIN).step()
    assert p.item() == pytest.approx(-3.0 / 1.25, rel=1e-15)


@pytest.mark.parametrize("alpha", [-1.0, -0.3, 0.0, 0.1, 0.45, 0.5, 1.0])
def test_a_parameter_without_signal_stays(alpha):
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = SMES([p], lr=1.0, alpha=alpha, **PLAIN)
    for _ in range(3):
        p.grad = torch.tensor([0.0, 0.0, 0.5])
        optimizer.step()
    assert p[:2].tolist() == [1.0, 1.0]
    assert torch.isfinite(p).all()
    assert p[2] < 1


@pytest.mark.parametrize("options", [PLAIN, {}])
def test_alpha_through_zero_never_leaves_v_behind(options):
    def moments(alphas):
        p = torch.nn.Parameter(torch.ones(4))
        optimizer = SMES([p], alpha=alphas[0], **options)
        for step, alpha in enumerate(alphas):
            optimizer.param_groups[0]["alpha"] = alpha
            p.grad = torch.arange(4.0) + step
            optimizer.step()
        return optimizer.state[p]["exp_avg_sq"]

    assert torch.equal(moments([-0.2, 0.0, 0.0, -0.2]), moments([-0.2] * 4))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"alpha": math.nan}, ValueError, "`alpha` must be a finite number; got nan. Use 0.5"),
        ({"alpha": "half"}, TypeError, "`alpha` must be a number; got 'half'"),
        ({"alpha": True}, TypeError, "`alpha` must be a number"),
        ({"lr": -1.0}, ValueError, "`lr` must be a finite number >= 0; got -1.0"),
        ({"lr": torch.tensor(-1.0)}, ValueError, "`lr` must be a finite number >= 0; got -1.0"),
        ({"lr": torch.ones(2)}, ValueError, "one element"),
        ({"lr": torch.ones(()), "foreach": True}, ValueError, "capturable=True"),
        ({"betas": (0.9, 1.0)}, ValueError, r"`betas\[1\]` must be .* >= 0 and < 1; got 1.0"),
        ({"eps": -1e-8}, ValueError, "`eps`"),
        ({"weight_decay": -0.1}, ValueError, "`weight_decay`"),
        ({"scope": "tensors"}, ValueError, "unknown scope 'tensors'; did you mean 'tensor'"),
        ({"graft": "layer"}, ValueError, "unknown graft 'layer'"),
        ({"graft_from": "adam"}, ValueError, "unknown graft_from 'adam'"),
        ({"foreach": True, "fused": True}, ValueError, "cannot be True together"),
        ({"foreach": True, "scope": "tensor"}, ValueError, "need scope='element'"),
    ],
)
def test_invalid_options_say_what_is_valid(options, kind, message):
    with pytest.raises(kind, match=message):
        SMES(parameters(), **options)
    with pytest.raises(kind, match=message):
        SMES(parameters()).add_param_group({"params": [torch.ones(1)], **options})


def test_sparse_and_complex_are_refused():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3).to_sparse()
    with pytest.raises(RuntimeError, match="no sparse gradients; use"):
        SMES([p]).step()
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="view_as_real"):
        SMES([p]).step()


def test_groups_closures_hooks_and_missing_gradients():
    first, second, frozen = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = SMES([first, frozen], lr=0.1)
    optimizer.add_param_group({"params": [second], "alpha": 0.0, "lr": 1.0})
    assert [g["alpha"] for g in optimizer.param_groups] == [0.5, 0.0]
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure():
        optimizer.zero_grad()
        loss = (first * 2 + second * 3).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 10.0
    assert calls == ["before", "after"]
    assert frozen not in optimizer.state
    torch.testing.assert_close(first.detach(), torch.full((2,), 0.9))
    torch.testing.assert_close(second.detach(), torch.full((2,), -2.0))


def test_state_dict_round_trip_continues_the_run():
    params = train(lambda p: SMES(p, alpha=-0.2), 5)
    optimizer = SMES(params, alpha=-0.2)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    twins = [torch.nn.Parameter(p.detach().clone()) for p in params]
    restored = SMES(twins, alpha=0.3)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, twin in zip(params, twins, strict=True):
        p.grad = twin.grad = torch.cos(p.detach())
    optimizer.step()
    restored.step()
    assert restored.param_groups[0]["alpha"] == -0.2
    assert_equal(twins, params)


@pytest.mark.parametrize("reference", [Adam, AdamW])
def test_adam_states_load(reference):
    params = parameters()
    adam = reference(params, lr=0.02, weight_decay=0.1, foreach=False)
    twins = [torch.nn.Parameter(p.detach().clone()) for p in params]
    smes = SMES(twins, decoupled_weight_decay=reference is AdamW, **PLAIN)

    def both_step():
        for p, twin in zip(params, twins, strict=True):
            p.grad, twin.grad = torch.cos(p.detach()), torch.cos(twin.detach())
        adam.step()
        smes.step()

    for p in params:
        p.grad = torch.ones_like(p)
    adam.step()
    smes.load_state_dict(copy.deepcopy(adam.state_dict()))
    for p, twin in zip(params, twins, strict=True):
        twin.data.copy_(p)
    both_step()
    assert smes.param_groups[0]["alpha"] == 0.5
    assert smes.param_groups[0]["lr"] == 0.02
    assert_equal(twins, params)


def test_amsgrad_states_are_refused():
    adam = Adam(parameters(), amsgrad=True)
    with pytest.raises(ValueError, match="amsgrad=True; SMES keeps no maximum"):
        SMES(parameters()).load_state_dict(adam.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_parameters_have_float32_moments(dtype):
    p = torch.nn.Parameter(torch.ones(8, dtype=dtype))
    optimizer = SMES([p], lr=0.1, alpha=0.1)
    p.grad = torch.full_like(p, 1e-3)
    optimizer.step()
    state = optimizer.state[p]
    assert state["exp_avg_sq"].dtype == torch.float32
    restored = SMES([torch.nn.Parameter(p.detach().clone())])
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    (loaded,) = restored.state.values()
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(loaded[name], state[name])
        assert loaded[name].dtype == torch.float32
    # g = 1e-3 -> m_hat = g, v_hat = g^2: one step of lr * g^(1 - 2 alpha).
    expected = torch.tensor(1 - 0.1 * 1e-3 ** (1 - 0.2)).to(dtype)
    assert torch.equal(p.detach(), expected.expand(8))


@pytest.mark.parametrize("alpha", [-0.1, 0.5])
@pytest.mark.parametrize("capturable", [False, True])
def test_lr_as_a_tensor(alpha, capturable):
    got = train(lambda p: SMES(p, lr=torch.tensor(0.01), alpha=alpha, capturable=capturable), 3)
    # float32 holds 0.01 to 2e-10, the tensor step its corrections to 1e-5.
    expected = train(lambda p: SMES(p, lr=0.01, alpha=alpha), 3)
    assert_equal(got, expected, 1e-6 if capturable else 1e-8)


def test_copies_and_pickles():
    params = parameters()
    for copied in (
        copy.deepcopy(SMES(params, alpha=0.1, fused=True)),
        pickle.loads(pickle.dumps(SMES(params, alpha=0.1, fused=True))),  # noqa: S301
    ):
        assert copied.param_groups[0]["alpha"] == 0.1
        assert copied._step_supports_amp_scaling

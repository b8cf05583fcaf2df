"""Shadow updates against real optimizers started from the same state."""

import copy

import pytest
import torch

from gradscope.optim.shadow import ShadowMoments
from gradscope.optim.smes import SMES

ALPHAS = (-0.3, 0.0, 0.5)


def model_of(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))


def backward(model, step):
    torch.manual_seed(step)
    model.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.Adam(p, lr=0.01),
        lambda p: SMES(p, lr=0.1, alpha=0.1),
    ],
    ids=["SGD", "Adam", "SMES"],
)
def test_shadow_equals_the_step_of_each_alpha(make):
    model = model_of()
    optimizer = make(model.parameters())
    shadow = ShadowMoments(optimizer, ALPHAS, model=model)
    history = []
    for step in range(3):
        backward(model, step)
        history.append([p.grad.clone() for p in model.parameters()])
        before = copy.deepcopy(model)
        optimizer.step()
    table = shadow.table()
    assert table.param == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert table.step.tolist() == [1, 2, 3]
    for k, alpha in enumerate(ALPHAS):
        # The same gradients through SMES at this alpha, its last step at learning rate 1.
        twins = [torch.nn.Parameter(p.detach().clone()) for p in before.parameters()]
        twin = SMES(twins, lr=0.0, alpha=alpha)
        for grads in history:
            twin.param_groups[0]["lr"] = 1.0 if grads is history[-1] else 0.0
            for p, g in zip(twins, grads, strict=True):
                p.grad = g
            twin.step()
        moves = [(t - p).detach() for t, p in zip(twins, before.parameters(), strict=True)]
        squares = torch.tensor([(u.double() ** 2).sum() for u in moves])
        descent = torch.tensor([-(u * g).sum() for u, g in zip(moves, history[-1], strict=True)])
        torch.testing.assert_close(table.update_sq[-1, k], squares.double(), rtol=1e-4, atol=0)
        torch.testing.assert_close(table.descent[-1, k], descent.double(), rtol=1e-4, atol=1e-8)
        rms = (squares.sum() / sum(u.numel() for u in moves)).sqrt()
        assert table.update_rms()[-1, k].item() == pytest.approx(rms.item(), rel=1e-4)
    norms = torch.tensor([p.detach().double().square().sum() for p in before.parameters()])
    torch.testing.assert_close(table.param_sq[-1], norms, rtol=1e-6, atol=0)


def test_layers_add_up_and_ratios_divide():
    model = model_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ShadowMoments(optimizer, ALPHAS, model=model, every=2) as shadow:
        for step in range(4):
            backward(model, step)
            optimizer.step()
    backward(model, 4)
    optimizer.step()
    table = shadow.table()
    assert table.step.tolist() == [1, 3]
    layers = table.by_layer()
    assert layers.param == ("0", "2")
    assert layers.size.tolist() == [30, 14]
    torch.testing.assert_close(layers.update_sq[..., 0], table.update_sq[..., :2].sum(-1))
    torch.testing.assert_close(layers.update_rms(), table.update_rms())
    ratio = (table.update_sq[0, 1, 0] / table.param_sq[0, 0]).sqrt()
    torch.testing.assert_close(table.update_ratio()[0, 1, 0], ratio)


def test_watching_changes_nothing_and_what_is_frozen_stands_still():
    ends = []
    for watched in (False, True):
        model = model_of()
        model[0].bias.requires_grad_(False)
        optimizer = SMES(model.parameters(), lr=0.1, alpha=-0.1)
        shadow = ShadowMoments(optimizer, ALPHAS) if watched else None
        for step in range(3):
            backward(model, step)
            optimizer.step()
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert shadow.table().param == ("param.0", "param.1", "param.2", "param.3")
    assert shadow.table().update_sq[:, :, 1].tolist() == [[0.0] * 3] * 3


def test_skipped_steps_do_not_count():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = SMES([p], fused=True)
    shadow = ShadowMoments(optimizer, [0.0])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor in (1.0, torch.inf, 2.0):
        optimizer.zero_grad()
        scaler.scale((p * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    table = shadow.table()
    assert table.step.tolist() == [1, 2]
    # m_hat of gradients 1 and 2: (0.09 + 0.2) / 0.19.
    expected = [1.0, (0.09 + 0.2) / 0.19]
    assert table.update_rms()[:, 0].tolist() == pytest.approx(expected, rel=1e-6)


def test_mistakes():
    optimizer = torch.optim.SGD([torch.ones(1)])
    with pytest.raises(ValueError, match="no step was measured yet"):
        ShadowMoments(optimizer, [0.0]).table()
    with pytest.raises(ValueError, match="`every` must be at least 1; got 0"):
        ShadowMoments(optimizer, [0.0], every=0)

"""Matched learning rates give first steps of one size."""

import pytest
import torch

from gradscope.experiments.sweep.matched_lr import matched_lr
from gradscope.optim.shadow import ShadowMoments, ShadowTable
from gradscope.optim.smes import SMES


def table_of(rms_by_alpha, n_steps=4):
    """One parameter of 4 entries whose updates have the given root mean squares."""
    squares = 4 * torch.tensor([list(rms_by_alpha.values())] * n_steps, dtype=torch.float64) ** 2
    return ShadowTable(
        step=torch.arange(1, n_steps + 1),
        alpha=tuple(rms_by_alpha),
        param=("w",),
        size=torch.tensor([4]),
        update_sq=squares[..., None],
        descent=torch.zeros(n_steps, len(rms_by_alpha), 1),
        param_sq=torch.ones(n_steps, 1),
    )


def test_rates_are_inverse_to_the_updates():
    rates = matched_lr(
        table_of({-0.2: 0.01, 0.0: 0.1, 0.5: 1.0}), 0.3, n_steps=4, weight_decay=1e-4
    )
    assert rates.alpha == (-0.2, 0.0, 0.5)
    assert rates.lr == pytest.approx((3.0, 0.3, 0.03))
    assert rates.weight_decay == pytest.approx((1e-5, 1e-4, 1e-3))


def test_first_steps_have_one_size():
    def first_update(alpha, lr, shadow_alphas=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 3)
        start = [p.detach().clone() for p in model.parameters()]
        optimizer = SMES(model.parameters(), lr=lr, alpha=alpha)
        shadow = ShadowMoments(optimizer, shadow_alphas) if shadow_alphas else None
        model(torch.randn(7, 5)).square().mean().backward()
        optimizer.step()
        moves = [p.detach() - s for p, s in zip(model.parameters(), start, strict=True)]
        return sum(u.square().sum().item() for u in moves), shadow

    size, shadow = first_update(0.0, 0.1, [-0.3, 0.0, 0.5])
    rates = matched_lr(shadow.table(), 0.1, n_steps=1)
    for alpha, lr in zip(rates.alpha, rates.lr, strict=True):
        assert first_update(alpha, lr)[0] == pytest.approx(size, rel=1e-4)


def test_mistakes():
    with pytest.raises(ValueError, match=r"alpha 0\.1 was not measured"):
        matched_lr(table_of({0.0: 1.0}), 0.1, alpha=0.1)
    with pytest.raises(ValueError, match="ends at step 4; 50 are needed"):
        matched_lr(table_of({0.0: 1.0}), 0.1)
    with pytest.raises(ValueError, match=r"zero or not finite at alpha \[0.5\]"):
        matched_lr(table_of({0.0: 1.0, 0.5: 0.0}), 0.1, n_steps=4)

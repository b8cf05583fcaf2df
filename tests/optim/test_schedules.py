"""Alpha over time and depth."""

import pytest
import torch

from gradscope.optim.schedules import (
    AlphaScheduler,
    by_depth,
    constant,
    cosine,
    cyclic,
    linear,
)
from gradscope.optim.smes import SMES


def optimizer_of(*depths):
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))]} for _ in depths or (None,)]
    for group, depth in zip(groups, depths, strict=False):
        group["relative_depth"] = depth
    return SMES(groups)


def alphas(alpha_at, n_steps):
    scheduler = AlphaScheduler(optimizer_of(), alpha_at)
    values = scheduler.get_last_alpha()
    for _ in range(n_steps):
        scheduler.step()
        values += scheduler.get_last_alpha()
    return values


def test_forms():
    assert alphas(constant(-0.2), 2) == [-0.2] * 3
    assert alphas(linear(-0.2, 0.2, 4), 5) == pytest.approx([-0.2, -0.1, 0.0, 0.1, 0.2, 0.2])
    assert alphas(cosine(0.0, 1.0, 2), 3) == pytest.approx([0.0, 0.5, 1.0, 1.0])
    assert alphas(cyclic(-0.2, 0.2, 4), 4) == pytest.approx([-0.2, 0.0, 0.2, 0.0, -0.2])
    assert alphas(lambda step, group: step / 4, 2) == [0.0, 0.25, 0.5]


def test_depth():
    optimizer = optimizer_of(0.0, 0.5, 1.0)
    assert AlphaScheduler(optimizer, by_depth(-0.3, 0.1)).get_last_alpha() == pytest.approx(
        [-0.3, -0.1, 0.1]
    )
    with pytest.raises(KeyError, match="no 'relative_depth'"):
        AlphaScheduler(optimizer_of(), by_depth(-0.3, 0.1))


def test_saved_and_restored():
    scheduler = AlphaScheduler(optimizer_of(), linear(0.0, 1.0, 10))
    for _ in range(3):
        scheduler.step()
    optimizer = optimizer_of()
    restored = AlphaScheduler(optimizer, linear(0.0, 1.0, 10))
    optimizer.load_state_dict(scheduler.optimizer.state_dict())
    assert optimizer.param_groups[0]["alpha"] == pytest.approx(0.3)
    restored.load_state_dict(scheduler.state_dict())
    restored.step()
    assert restored.get_last_alpha() == pytest.approx([0.4])


def test_beside_a_schedule_of_the_learning_rate():
    optimizer = optimizer_of()
    alpha = AlphaScheduler(optimizer, linear(-0.2, 0.2, 2))
    lr = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for _ in range(2):
        optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
        optimizer.step()
        alpha.step()
        lr.step()
    assert optimizer.param_groups[0]["alpha"] == pytest.approx(0.2)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.00025)


def test_mistakes():
    sgd = torch.optim.SGD([torch.ones(1)])
    with pytest.raises(ValueError, match="SGD has no alpha to schedule"):
        AlphaScheduler(sgd, constant(0.1))
    with pytest.raises(ValueError, match="the schedule gave nan at step 0"):
        AlphaScheduler(optimizer_of(), constant(float("nan")))
    with pytest.raises(ValueError, match="`period` must be at least 1; got 0"):
        cyclic(0.0, 1.0, 0)

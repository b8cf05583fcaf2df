import pytest
import torch

from gradscope.experiments.config import Config
from gradscope.experiments.training.lr_schedule import lr_at

N_STEPS, PER_EPOCH = 40, 8


def torchs(make_scheduler, steps_between):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = make_scheduler(optimizer)
    rates = []
    for step in range(1, N_STEPS + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % steps_between == 0:
            scheduler.step()
    return rates


def ours(**options):
    config = Config(lr=0.3, **options)
    return [
        lr_at(config, step, n_steps=N_STEPS, steps_per_epoch=PER_EPOCH)
        for step in range(1, N_STEPS + 1)
    ]


def test_constant():
    assert set(ours()) == {0.3}


def test_step_equals_torchs_multi_step():
    expected = torchs(
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones=[1, 3], gamma=0.2), PER_EPOCH
    )
    assert ours(lr_schedule="step", lr_milestones=(1, 3)) == pytest.approx(expected)


def test_cosine_equals_torchs():
    expected = torchs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=N_STEPS), 1)
    assert ours(lr_schedule="cosine") == pytest.approx(expected)

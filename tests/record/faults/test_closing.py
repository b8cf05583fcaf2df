"""A recorder that is closed anywhere in a step, or not attached: nothing of it stays."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim.optimizer import register_optimizer_step_pre_hook

import gradscope

N_STEPS, LAST = 6, 3


def on_global_forward(model, optimizer, close):
    return torch_module.register_module_forward_hook(lambda *_: close())


def on_global_pre_forward(model, optimizer, close):
    return torch_module.register_module_forward_pre_hook(lambda *_: close())


def on_forward(model, optimizer, close):
    return model[0].register_forward_hook(lambda *_: close())


def on_backward(model, optimizer, close):
    return model[0].weight.register_hook(lambda _: close())


def on_accumulated(model, optimizer, close):
    return model[2].bias.register_post_accumulate_grad_hook(lambda _: close())


def on_any_step(model, optimizer, close):
    return register_optimizer_step_pre_hook(lambda *_: close())


def before_step(model, optimizer, close):
    return optimizer.register_step_pre_hook(lambda *_: close())


def after_step(model, optimizer, close):
    return optimizer.register_step_post_hook(lambda *_: close())


PLACES = [
    on_global_forward,
    on_global_pre_forward,
    on_forward,
    on_backward,
    on_accumulated,
    on_any_step,
    before_step,
    after_step,
]


def train(path, place, *, is_early):
    """Train; the hook that closes stands before those of the recorder, or behind them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    recorders, state = [], {"step": 0}

    def close():
        if state["step"] == LAST and recorders:
            recorders[0].close()

    early = [place(model, optimizer, close)] if is_early else []
    if path is not None:
        recorders.append(gradscope.Recorder(model, optimizer, path, every=1, record="full"))
    late = [] if is_early else [place(model, optimizer, close)]
    losses = []
    for state["step"] in range(1, N_STEPS + 1):
        loss = model(torch.randn(5, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for handle in early + late:
        handle.remove()
    return losses, recorders, weakref.ref(model), weakref.ref(optimizer)


@pytest.mark.parametrize("is_early", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_closing_anywhere_in_a_step(tmp_path, place, is_early):
    expected, *_ = train(None, place, is_early=is_early)
    gc.disable()
    try:
        losses, [recorder], model, optimizer = train(tmp_path / "run.h5", place, is_early=is_early)
        assert (model(), optimizer()) == (None, None)
    finally:
        gc.enable()
    assert losses == expected
    recorder.close()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    steps = tree["training/step"].values.tolist()
    assert steps in ([1, 2], [1, 2, 3]) and tree.attrs["status"] == "finished"


@pytest.mark.parametrize(
    "options", [{"grad_scaler": "none"}, {"if_exists": "never"}, {"config": 1}]
)
def test_one_that_could_not_be_attached_holds_nothing(tmp_path, options):
    def attach():
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters())
        with pytest.raises((AttributeError, ValueError, TypeError)):
            gradscope.Recorder(model, optimizer, tmp_path / "run.h5", **options)
        return weakref.ref(model), weakref.ref(optimizer)

    gc.disable()
    try:
        assert [ref() for ref in attach()] == [None, None]
    finally:
        gc.enable()


class Trainer:
    """Whose methods a recorder is told to call, as those of a Lightning module."""

    def every(self, step):
        return True

    def health(self, finding):
        pass

    def size(self, param, grad, state):
        return param.norm()

    def includes(self, name):
        return True


def test_one_that_is_kept_holds_no_trainer(tmp_path):
    trainer = Trainer()
    options = {"every": trainer.every, "include": trainer.includes, "on_health": trainer.health}
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters())
    recorder = gradscope.Recorder(
        model, optimizer, tmp_path / "run.h5", custom={"size": trainer.size}, **options
    )
    for _ in range(3):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    recorder.close()
    ref = weakref.ref(trainer)
    gc.disable()
    try:
        del trainer, options
        assert ref() is None
    finally:
        gc.enable()
    assert recorder.step == 3 and recorder.state_dict()["step"] == 3

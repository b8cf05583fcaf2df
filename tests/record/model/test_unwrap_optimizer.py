"""Wrappers around optimizers: the inner step is recorded, or the wrapper is refused at once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradscope


class Bare:
    """Shape of Fabric's and Lightning's wrappers: no subclass, passes everything on."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self.__dict__["_inner"], name)

    def step(self, closure=None):
        return self._inner.step(closure)


class Lookahead(torch.optim.Optimizer):
    """As it is often written: without a call of the parent's constructor."""

    def __init__(self, fast):
        self.fast, self.param_groups, self.state = fast, fast.param_groups, defaultdict(dict)

    def zero_grad(self, set_to_none=True):
        self.fast.zero_grad(set_to_none)

    def step(self, closure=None):
        return self.fast.step(closure)


class ScheduleFree(torch.optim.Optimizer):
    """Shape of schedulefree's wrapper: groups of its own with the same tensors."""

    def __init__(self, base):
        super().__init__([p for g in base.param_groups for p in g["params"]], {})
        self.base = base

    def step(self, closure=None):
        return self.base.step(closure)


class Several(torch.optim.Optimizer):
    """Shape of chained optimizers: a list inside, all parameters between them."""

    def __init__(self, *inner):
        super().__init__([p for o in inner for g in o.param_groups for p in g["params"]], {})
        self.chain = list(inner)

    def step(self, closure=None):
        for optimizer in self.chain:
            optimizer.step()


class Half(torch.optim.Optimizer):
    """Updates matrices itself and leaves vectors to an optimizer inside."""

    def __init__(self, params):
        params = list(params)
        super().__init__(params, {"lr": 0.1})
        self.rest = torch.optim.SGD([p for p in params if p.ndim == 1], lr=0.1)

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            if p.ndim == 2:
                p.add_(p.grad.sign(), alpha=-0.1)
        self.rest.step()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "bare": lambda m: Bare(sgd(m)),
    "lookahead": lambda m: Lookahead(sgd(m)),
    "schedule-free": lambda m: ScheduleFree(sgd(m)),
    "twice": lambda m: ScheduleFree(Lookahead(sgd(m))),
    "several": lambda m: Several(
        torch.optim.SGD([m.weight], lr=0.1), torch.optim.Adam([m.bias], lr=0.1)
    ),
    "half": lambda m: Half(m.parameters()),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapped_optimizer_is_recorded(tmp_path, kind):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = WRAPPERS[kind](model)
    norms, moves = [], []
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(3):
            model(torch.randn(6, 4)).square().mean().backward()
            norms.append([float(p.grad.norm()) for p in (model.weight, model.bias)])
            pair = model.weight.detach(), model.bias.detach()
            before = [p.clone() for p in pair]
            optimizer.step()
            moves.append([float((a - b).norm()) for a, b in zip(pair, before, strict=True)])
            optimizer.zero_grad()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["training/step"].values.tolist() == [1, 2, 3]
    params = {"param": ["weight", "bias"]}
    np.testing.assert_allclose(tree["gradients/grad_norm"].sel(params), norms, rtol=1e-5)
    np.testing.assert_allclose(tree["updates/update_norm"].sel(params), moves, rtol=1e-4)


def test_what_cannot_be_watched_is_refused_and_leaves_nothing(tmp_path):
    class Orphan(torch.optim.Optimizer):
        def __init__(self, params):
            self.param_groups, self.state = [{"params": list(params)}], defaultdict(dict)

        def step(self, closure=None):
            pass

    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Orphan, never called Optimizer.__init__"):
        gradscope.Recorder(model, Orphan(model.parameters()), tmp_path / "run.h5")
    for wrong in (model, None, 0.1, iter(model.parameters())):
        with pytest.raises(TypeError, match="`optimizer` must be a torch Optimizer"):
            gradscope.Recorder(model, wrong, tmp_path / "run.h5")
    with pytest.raises(ValueError, match="holds no optimizer"):
        gradscope.Recorder(model, [], tmp_path / "run.h5")
    inner = sgd(model)
    with pytest.raises(ValueError, match="given already"):
        gradscope.Recorder(model, {"a": inner, "b": Lookahead(inner)}, tmp_path / "run.h5")
    assert not list(tmp_path.iterdir())
    gradscope.Recorder(model, inner, tmp_path / "run.h5").close()


def test_a_list_of_optimizers_is_numbered(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    several = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in model]
    gradscope.Recorder(model, several, tmp_path / "run.h5").close()
    names = gradscope.open_recording(tmp_path / "run.h5").attrs["optimizer_names"]
    assert names.split() == ["0", "1"]


def test_an_optimizer_of_other_parameters_is_said_aloud(tmp_path):
    model, copy = nn.Linear(3, 2), nn.Linear(3, 2)
    message = re.escape("(SGD) trains none of the model's parameters")
    with pytest.warns(RuntimeWarning, match=message):
        gradscope.Recorder(model, sgd(copy), tmp_path / "run.h5").close()


def test_a_bare_tensor_beside_a_trained_model_needs_no_advice(tmp_path):
    model, alpha = nn.Linear(3, 2), torch.zeros(1, requires_grad=True)
    optimizers = {"net": sgd(model), "alpha": torch.optim.SGD([alpha], lr=0.1)}
    message = r"optimizer 'alpha' \(SGD\) .* are recorded as `alpha.param_groups.…`$"
    with pytest.warns(RuntimeWarning, match=message):
        gradscope.Recorder(model, optimizers, tmp_path / "run.h5").close()


def test_an_optimizer_that_never_steps_is_said_aloud(tmp_path):
    model = nn.ModuleDict({"body": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    optimizers = {name: sgd(part) for name, part in model.items()}

    def train(path, stepping):
        with gradscope.Recorder(model, optimizers, tmp_path / path):
            for _ in range(3):
                model["head"](model["body"](torch.randn(5, 3))).square().mean().backward()
                for name in stepping:
                    optimizers[name].step()

    message = re.escape("the optimizer 'head' (SGD) never stepped in 3 recorded steps")
    with pytest.warns(RuntimeWarning, match=message) as caught:
        train("one.h5", ["body"])
    assert len(caught) == 1
    train("both.h5", ["body", "head"])  # a warning would be an error
    tree = gradscope.open_recording(tmp_path / "one.h5").load()
    is_head = tree["gradients"]["param"].str.startswith("head").values
    assert np.isnan(tree["gradients/grad_norm"].values[:, is_head]).all()
    assert np.isfinite(tree["gradients/grad_norm"].values[:, ~is_head]).all()


def test_accelerate_and_fabric(tmp_path):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    fabric = pytest.importorskip("lightning.fabric", reason="lightning is not installed")
    first = accelerate.Accelerator(cpu=True)
    second = fabric.Fabric(accelerator="cpu", devices=1)
    for number, prepare in enumerate((first.prepare, second.setup)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 2))
        wrapped, optimizer = prepare(model, sgd(model))
        norms = []
        with gradscope.Recorder(wrapped, optimizer, tmp_path / f"{number}.h5"):
            for _ in range(3):
                wrapped(torch.randn(6, 4)).square().mean().backward()
                norms.append(float(model[0].weight.grad.norm()))
                optimizer.step()
                optimizer.zero_grad()
        tree = gradscope.open_recording(tmp_path / f"{number}.h5").load()
        assert tree["gradients"]["param"].values.tolist() == ["0.weight", "0.bias"]
        assert tree.attrs["model_name"] == "Sequential" and tree.attrs["optimizer_name"] == "SGD"
        np.testing.assert_allclose(tree["gradients/grad_norm"].values[:, 0], norms, rtol=1e-5)


def test_a_training_without_gradients_or_steps_is_said_aloud(tmp_path):
    """As zeroth-order training does: perturb the weights, compare two losses, move them by hand."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = gradscope.Recorder(model, optimizer, tmp_path / "run.h5")
    with torch.no_grad():
        for _ in range(3):
            recorder.log(loss=model(torch.randn(3, 4)).square().mean())
            model.weight.mul_(0.9)
    with pytest.warns(RuntimeWarning, match="sees a training but no step of the optimizer"):
        recorder.close()

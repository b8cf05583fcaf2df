"""What was compiled before the recorder was attached cannot be seen: it is told of, once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from tests.record.hooks.test_compile_taps import (  # noqa: F401
    N_STEPS,
    data,
    fresh_compiler,
    make,
    train,
)


def test_attached_after_compiling_says_once_what_is_missing(tmp_path):
    model, optimizer = make()
    step = {}

    def wrap(f):
        step["f"] = torch.compile(f, backend="aot_eager")
        return step["f"]

    train(model, optimizer, None, wrap)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
            for _ in range(N_STEPS):
                recorder.log(loss=step["f"]())
    said = [str(w.message) for w in caught if "activations are missing" in str(w.message)]
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["training"].sizes["step"] == N_STEPS
    for name in ("gradients/grad_norm", "updates/update_norm", "second_moments/exp_avg_sq_mean"):
        assert np.isfinite(tree[name]).all()
    assert "activations" not in tree.children
    assert len(said) == 1 and "before the recorder was attached" in said[0]


@pytest.mark.parametrize("what", ["module", "most blocks", "one block", "attached before"])
def test_a_module_compiled_before_is_told_of_where_most_layers_are_missing(tmp_path, what):
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(4)]
    model = nn.Sequential(*blocks)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    n_compiled = {"most blocks": 3, "one block": 1}.get(what, 0)
    for k in range(n_compiled):
        setattr(model, str(k), torch.compile(blocks[k], backend="aot_eager"))
    call = model if n_compiled else torch.compile(model, backend="aot_eager")
    x = torch.ones(2, 4)
    if what != "attached before":
        call(x).sum().backward()
        optimizer.zero_grad()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gradscope.Recorder(call, optimizer, tmp_path / "run.h5"):
            for _ in range(N_STEPS):
                call(x).square().sum().backward()
                optimizer.step()
                optimizer.zero_grad()
    said = [str(w.message) for w in caught if "activations are missing" in str(w.message)]
    expected = {"module": ["8 of 8 layers"], "most blocks": ["6 of 8 layers"]}.get(what, [])
    assert len(said) == len(expected)
    assert all(words in text for words, text in zip(expected, said, strict=True))
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    seen = np.isfinite(tree["activations/output_rms"].values).all(axis=0)
    first = {"module": 8, "most blocks": 6, "one block": 2}.get(what, 0)
    assert seen.tolist() == [k >= first for k in range(8)]


def test_gradients_set_by_hand_beside_a_compiled_loss_are_not_blamed_on_the_compiler(tmp_path):
    model, optimizer = make()
    compiled, params = torch.compile(torch.sum, backend="aot_eager"), list(model.parameters())
    with pytest.warns(RuntimeWarning, match="or their gradients are set by hand") as caught:
        with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
            for _ in range(N_STEPS):
                grads = torch.autograd.grad(compiled(model(data()[0])), params)
                for p, grad in zip(params, grads, strict=True):
                    p.grad = grad
                optimizer.step()
    assert len(caught) == 1


def test_steps_without_gradients_are_told_of_nothing(tmp_path):
    model, optimizer = make()
    torch.compile(torch.sum, backend="aot_eager")(torch.ones(3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
            for _ in range(N_STEPS):
                optimizer.step()
    assert [w for w in caught if "activations are missing" in str(w.message)] == []

"""Where a row begins and ends in loops that stop or change in the middle of a step."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import gradscope
from tests.record.loops.training_loops import data, mlp, run


@pytest.mark.parametrize("is_abandoned", [False, True])
def test_a_pass_without_a_step_leaves_the_last_row_as_it_is(tmp_path, is_abandoned):
    """The passes after the last step, of another size and at another scale, belong to no row."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if is_abandoned else "error")
        with gradscope.Recorder(model, optimizer, tmp_path / "run.h5") as recorder:
            for _ in range(2):
                optimizer.zero_grad()
                out = model(x)
                cross_entropy(out, y).backward()
                expected = float(out.detach().double().square().mean().sqrt())
                optimizer.step()
            optimizer.zero_grad()
            cross_entropy(model(10 * torch.cat([x, x])), torch.cat([y, y])).backward()
            if is_abandoned:
                recorder._guard.fail(RuntimeError("injected"))
    tree = gradscope.open_recording(tmp_path / "run.h5")
    assert tree["training"].sizes["step"] == 2
    assert tree["training/batch_size"].values.tolist() == [16, 16]
    row = tree["activations"].sel(step=2, layer="2")
    assert float(row["output_rms"]) == pytest.approx(expected, rel=1e-6)
    assert int(row["output_numel"]) == 16 * 4


def test_an_optimizer_whose_parameters_grow_between_two_steps_begins_a_row(tmp_path):
    """It cannot join the row of the optimizer before: that has left with the old parameters."""
    model, head = mlp(), torch.nn.Linear(4, 4)
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[2].parameters(), lr=0.1)
    x, y = data()

    def step(k, recorder):
        model.zero_grad()
        head.zero_grad()
        cross_entropy(head(model(x)), y).backward()
        first.step()
        if k == 2:
            second.add_param_group({"params": list(head.parameters())})
        second.step()

    tree = run(model, {"a": first, "b": second}, tmp_path, step, 3)
    assert tree.attrs["status"] == "finished"
    assert tree["training/optimizer"].values.tolist() == [0, 1, 2, 0]  # a bit each; 0 is both
    norm = tree["gradients/grad_norm"].sel(param="b.param_groups.1.0").values
    assert np.isfinite(norm).tolist() == [False, False, True, True]

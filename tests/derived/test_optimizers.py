"""Rows and steps of several optimizers are told apart, by a recording made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from gradscope.derived.cells import NONFINITE, NUMBER, OTHER, nonfinite_as_infinity, select_cells
from gradscope.derived.health.run_data import MAX_ROWS, RecordedRun
from gradscope.derived.optimizers import MAX_HELD, losses_apart, owners, stepped_at
from gradscope.errors import UsageError

PARAMS = ["g.weight", "d.weight"]


def gan(bits, **attrs):
    """Optimizer g (bit 1) trains g.weight, d (bit 2) d.weight; the norm at step k is k."""
    steps = np.arange(1, len(bits) + 1)
    bits = np.asarray(bits, dtype=float)
    known = np.where(np.isnan(bits), 3, bits).astype(int)
    has = np.stack([known & 1, (known & 2) // 2], axis=1).astype(bool)
    norm = np.where(has, steps[:, None].astype(float), np.nan)
    params = {"layer": ["g", "d"], "kind": ["weight"] * 2, "numel": [4, 4]}
    gradients = xr.Dataset(
        {"grad_norm": (("step", "param"), norm)},
        {"step": steps, "param": PARAMS, **{k: ("param", v) for k, v in params.items()}},
    )
    gradients["grad_nonfinite"] = gradients["grad_norm"].where(False, 0)
    training = xr.Dataset(
        {"optimizer": ("step", bits), "loss": ("step", steps * 1.0)}, {"step": steps}
    )
    root = xr.Dataset(attrs={"optimizer_names": "g d", **attrs})
    return xr.DataTree.from_dict({"/": root, "/training": training, "/gradients": gradients})


def test_bits_say_who_stepped_and_missing_means_all():
    tree = gan([2, 1, np.nan])
    assert stepped_at(tree, np.array([1, 2, 3])).tolist() == [[0, 1], [1, 0], [1, 1]]
    assert owners(tree) == {"g.weight": 0, "d.weight": 1, "g": 0, "d": 1}


def test_a_row_keeps_its_own_last_step_while_others_step():
    data = select_cells(gan([2, 1, 2, 2, 1]), "grad_norm")
    assert data.values[:, 0].tolist() == [2, 2, 2, 2, 5]
    assert data.values[:, 1].tolist() == [1, 1, 3, 4, 4]
    assert (data["cell_state"] == NUMBER).all()


def test_long_after_its_last_step_a_row_is_of_another_optimizer():
    data = select_cells(gan([1] + [2] * (MAX_HELD + 5)), "grad_norm")
    states = data["cell_state"].values[:, 0]
    assert (states[: MAX_HELD + 1] == NUMBER).all() and (states[MAX_HELD + 1 :] == OTHER).all()
    assert np.isnan(data.values[MAX_HELD + 1 :, 0]).all()


def test_one_optimizer_is_selected_with_its_rows_and_steps():
    data = select_cells(gan([2, 1, 2, 1]), "grad_norm", optimizer="d")
    assert data["param"].values.tolist() == ["d.weight"] and data["step"].values.tolist() == [1, 3]
    with pytest.raises(UsageError, match="unknown optimizer 'x'"):
        select_cells(gan([2, 1]), "grad_norm", optimizer="x")
    with pytest.raises(UsageError, match="one only"):
        select_cells(gan([2, 1], optimizer_names=""), "grad_norm", optimizer="d")


def test_losses_of_different_objectives_are_apart():
    losses = losses_apart(gan([2, 1, 2, np.nan]))
    assert {name: loss["step"].values.tolist() for name, loss in losses.items()} == {
        "loss of g and d": [4],
        "loss of g": [2],
        "loss of d": [1, 3],
    }
    assert list(losses_apart(gan([2, 1], optimizer_names=""))) == ["loss"]


def test_health_thins_within_each_optimizer():
    tree = gan([2, 1] * 2 * MAX_ROWS)
    run = RecordedRun(tree)
    norm = run.values("gradients", "grad_norm")
    assert np.isfinite(norm).sum(axis=0).tolist() == [MAX_ROWS // 2] * 2
    np.testing.assert_array_equal(np.nanmax(norm, axis=1), run.steps("gradients"))


def test_cells_without_a_finite_entry_are_non_finite_and_others_missing():
    tree = gan([np.nan] * 4)
    norm, bad = (tree[f"gradients/{name}"].values for name in ("grad_norm", "grad_nonfinite"))
    norm[0, 0], bad[0, 0] = np.nan, 4  # all four entries
    norm[1, 0], bad[1, 0] = 0.0, 4  # the same in recordings of gradscope 0.1
    norm[2, 0], bad[2, 0] = 5.0, 1  # three finite entries have a norm
    norm[3, 0] = np.nan  # not recorded
    norm[0, 1] = np.inf
    data = select_cells(tree, "grad_norm")
    states = data["cell_state"].values
    assert states[:, 0].tolist() == [NONFINITE, NONFINITE, NUMBER, 0]
    assert states[0, 1] == NONFINITE and (states[1:, 1] == NUMBER).all()
    assert np.isinf(nonfinite_as_infinity(data).values[:2, 0]).all()

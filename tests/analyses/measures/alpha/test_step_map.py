"""Is alpha a learning rate: maps in which it is, and in which it is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analyses.measures.alpha.step_map import ridge_slope, step_size, transfer_errors
from tests.helpers import synthetic_recording

ALPHAS = (-0.2, 0.0, 0.2)
DECADES_PER_ALPHA = 5.0


def cells(accuracy_of) -> pd.DataFrame:
    """A map whose step is lr * 10^(5 alpha); accuracy as a function of log10 lr and log10 step."""
    rows = []
    for alpha in ALPHAS:
        for log_lr in np.arange(-4, 2.25, 0.25):
            log_step = log_lr + DECADES_PER_ALPHA * alpha
            rows.append(
                {
                    "alpha": alpha,
                    "lr": 10**log_lr,
                    "step": 10**log_step,
                    "chance": 0.1,
                    "accuracy": accuracy_of(log_lr, log_step, alpha),
                }
            )
    return pd.DataFrame(rows)


def bump(place):
    return 0.1 + 0.85 * np.exp(-((place + 1) ** 2) / 0.5)


def test_where_alpha_is_a_learning_rate_equal_steps_predict_and_equal_rates_do_not():
    table = cells(lambda lr, step, alpha: bump(step))
    assert transfer_errors(table)["step"] < 1e-9
    assert transfer_errors(table)["lr"] > 0.2
    assert ridge_slope(table, "lr") == pytest.approx(-DECADES_PER_ALPHA, rel=1e-3)
    assert ridge_slope(table, "step") == pytest.approx(0, abs=1e-2)


def test_where_alpha_does_not_touch_what_matters_equal_rates_predict():
    table = cells(lambda lr, step, alpha: bump(lr))
    assert transfer_errors(table)["lr"] < 1e-9 < 0.2 < transfer_errors(table)["step"]


def test_an_effect_of_alpha_itself_is_seen_at_equal_step():
    table = cells(lambda lr, step, alpha: bump(step) * (1 - alpha))
    assert transfer_errors(table)["step"] > 0.02


def test_both_errors_are_over_the_cells_that_can_be_predicted_in_both_ways():
    """The lowest step and the highest are of one alpha alone: four of six cells are left."""
    rates = [1.0, 10.0, 100.0]
    low = pd.DataFrame({"alpha": 0.1, "lr": rates, "accuracy": [0.2, 0.5, 0.8]})
    high = pd.DataFrame({"alpha": -0.1, "lr": rates, "accuracy": [0.5, 0.8, 0.9]})
    table = pd.concat([low.assign(step=[0.1, 1, 10]), high.assign(step=[1.0, 10, 100])])
    found = transfer_errors(table.reset_index(drop=True))
    assert found["step"] == pytest.approx(0, abs=1e-12)
    assert found["lr"] == pytest.approx(np.sqrt((3 * 0.3**2 + 0.1**2) / 4))


def test_alphas_that_never_meet_predict_nothing():
    table = cells(lambda lr, step, alpha: bump(step)).query("alpha == 0.0")
    assert np.isnan(transfer_errors(table)["step"])
    assert np.isnan(ridge_slope(table, "step"))


def test_the_step_is_the_root_mean_square_update_of_all_weights():
    tree = synthetic_recording(6, 4)
    data = tree["updates"].to_dataset()
    data["update_norm"] = data["update_norm"] * 0 + 3.0
    tree["updates"] = data
    is_weight = data["kind"].values == "weight"
    expected = 3 * np.sqrt(is_weight.sum() / data["numel"].values[is_weight].sum())
    assert step_size(tree) == pytest.approx(expected)


def test_steps_after_the_beginning_are_an_outcome_and_do_not_count():
    tree = synthetic_recording(40, 4)
    data = tree["updates"].to_dataset()
    ones = data["update_norm"] * 0 + 1.0
    tree["updates"] = data.assign(update_norm=ones)
    before = step_size(tree)
    tree["updates"] = data.assign(update_norm=ones.where(data["step"] <= 10, 1e-6))
    assert step_size(tree) == pytest.approx(before)

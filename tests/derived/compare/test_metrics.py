"""Final metrics of conditions."""

import math

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from gradscope.derived.compare.conditions import Condition
from gradscope.derived.compare.metrics import final_metrics


def evaluated(variables):
    evaluation = xr.Dataset(
        {name: (("run", "step"), values[:, None]) for name, values in variables.items()},
        coords={"step": [7], "run": [str(i) for i in range(len(next(iter(variables.values()))))]},
    )
    return xr.DataTree.from_dict({"/": evaluation[["run"]], "/evaluation": evaluation})


def test_intervals_of_shares_stay_within_zero_and_one():
    """Those of Student's t otherwise, which reach beyond where runs are few."""
    variables = {
        "test_accuracy": np.array([1.0, 0.9, 0.98]),
        "test_loss": np.array([0.1, 0.9, 0.2]),
    }
    tree = evaluated(variables)
    condition = Condition(name="all", runs=(0, 1, 2), seeds=("0", "1", "2"))
    found = {one.metric: one for one in final_metrics(tree, [condition])}
    for name, values in variables.items():
        half = scipy.stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3)
        low, high = values.mean() - half, values.mean() + half
        assert high > 1 or low < 0
        expected = (low, min(high, 1)) if name == "test_accuracy" else (low, high)
        assert (found[name].low, found[name].high) == pytest.approx(expected)


def test_runs_of_one_value_have_no_interval():
    """Networks that guess have the same accuracy; an interval of no width would say too much."""
    tree = evaluated({"test_accuracy": np.array([0.5, 0.6, 0.1, 0.1])})
    conditions = [
        Condition(name="learn", runs=(0, 1), seeds=("0", "1")),
        Condition(name="guess", runs=(2, 3), seeds=("0", "1")),
    ]
    learn, guess = final_metrics(tree, conditions)
    assert learn.low < learn.mean < learn.high
    assert guess.mean == 0.1 and math.isnan(guess.low) and math.isnan(guess.high)
    assert guess.difference == pytest.approx(-0.45)
    assert guess.difference_low < guess.difference < guess.difference_high

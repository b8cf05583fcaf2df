"""Final metrics of conditions."""

import math

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from gradscope.derived.compare.conditions import Condition
from gradscope.derived.compare.metrics import final_metrics


def test_intervals_of_shares_stay_within_zero_and_one():
    """Those of Student's t otherwise, which reach beyond where runs are few."""
    last = np.array([1.0, 0.9, 0.98])
    loss = np.array([0.1, 0.9, 0.2])
    variables = {"test_accuracy": last, "test_loss": loss}
    evaluation = xr.Dataset(
        {name: (("run", "step"), values[:, None]) for name, values in variables.items()},
        coords={"step": [7], "run": ["a", "b", "c"]},
    )
    tree = xr.DataTree.from_dict({"/": evaluation[["run"]], "/evaluation": evaluation})
    condition = Condition(name="all", runs=(0, 1, 2), seeds=("0", "1", "2"))
    found = {one.metric: one for one in final_metrics(tree, [condition])}
    for name, values in variables.items():
        half = scipy.stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3)
        low, high = values.mean() - half, values.mean() + half
        assert high > 1 or low < 0
        expected = (low, min(high, 1)) if name == "test_accuracy" else (low, high)
        assert (found[name].low, found[name].high) == pytest.approx(expected)

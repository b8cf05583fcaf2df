"""Every part of the chain knows every declared quantity: a gap anywhere fails here.

A quantity is declared in `gradscope.schema`, measured and finalized by the recorder, aggregated,
drawn on a scale, listed in docs/recorder.md and checked by validate.
"""

from __future__ import annotations

from typing import get_args

import h5py
import numpy as np
import pytest
import torch

from gradscope import schema
from gradscope.derived.aggregate import aggregate
from gradscope.derived.aggregation_rules import RULES, WEIGHT_INPUTS, WEIGHTS
from gradscope.derived.select import select
from gradscope.derived.variables import FORMULAS
from gradscope.plots.axes.scales import declared_kind, scale_of
from gradscope.record.recorder import Recorder
from gradscope.schema.variable import Rule, Weight
from gradscope.store.maintain.validate import violations
from gradscope.store.read.recording import open_recording

MEASURED = [
    (group.name, variable)
    for group in schema.GROUPS.values()
    if group.name not in ("training", "evaluation", "custom", "spikes")
    for variable in group.variables.values()
]
DERIVED = [(group, v) for group, own in schema.DERIVED.items() for v in own.values()]
OF_ROWS = [
    (group, v) for group, v in (*MEASURED, *DERIVED) if v.dims[1:] in (("param",), ("layer",))
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Record everything of a small convolutional network with two micro-batches a step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    path = tmp_path_factory.mktemp("complete") / "run.h5"
    with Recorder(model, optimizer, path, every=1, record="full") as recorder:
        for _ in range(4):
            optimizer.zero_grad()
            for _ in range(2):
                x, y = torch.randn(8, 1, 8, 8), torch.randint(3, (8,))
                loss = torch.nn.functional.cross_entropy(model(x), y) / 2
                loss.backward()
            optimizer.step()
            recorder.log(loss=loss)
    return path


@pytest.fixture(scope="module")
def tree(path):
    return open_recording(path)


def named(argument):
    return getattr(argument, "name", argument)


@pytest.mark.parametrize(("group", "variable"), MEASURED, ids=named)
def test_the_recorder_measures_and_finalizes_it(tree, group, variable):
    values = tree[group][variable.name]
    assert values.dims == variable.dims
    known = values.values[1:]  # noise needs a step with gradients of both micro-batches
    assert (known >= 0).any() if variable.dtype == "int64" else np.isfinite(known).any()


@pytest.mark.parametrize(("group", "variable"), DERIVED, ids=named)
def test_a_derived_quantity_has_a_formula_and_is_added(tree, group, variable):
    assert variable.name in FORMULAS
    assert np.isfinite(tree[group][variable.name].values).any()


@pytest.mark.parametrize(("group", "variable"), (*MEASURED, *DERIVED), ids=named)
def test_it_aggregates_as_declared(tree, group, variable):
    united = aggregate(tree, by="all")[group]
    assert (variable.name in united.data_vars) == (variable.aggregation.rule != "none")


@pytest.mark.parametrize(("group", "variable"), OF_ROWS, ids=named)
def test_it_is_selected_and_has_a_scale(tree, group, variable):
    data = select(tree, variable.name, by="layer" if "layer" in variable.dims else "param")
    kind = declared_kind(data)
    assert kind == variable.scale
    drawn = scale_of(np.asarray(data.values, dtype=float), kind).kind
    allowed = {
        "log": {"log", "linear"},  # linear where every value is zero
        "linear": {"linear"},
        "share": {"linear"},
        "signed": {"diverging", "symlog"},
        "auto": {"log", "linear", "diverging", "symlog"},
    }
    assert drawn in allowed[variable.scale]


def test_every_rule_and_weight_has_a_function():
    assert set(RULES) == set(get_args(Rule))
    assert set(WEIGHTS) == set(WEIGHT_INPUTS) == set(get_args(Weight))
    assert set(schema.SCALES) == set(get_args(schema.Scale))


def test_a_sound_recording_of_everything_has_no_violation(path):
    assert violations(path) == []


@pytest.mark.parametrize(
    ("group", "variable"), [(g, v) for g, v in MEASURED if v.bounds[0] == 0], ids=named
)
def test_validate_finds_values_below_the_bounds(path, tmp_path, group, variable):
    broken = tmp_path / "run.h5"
    broken.write_bytes(path.read_bytes())
    with h5py.File(broken, "r+") as file:
        dataset = file[f"{group}/{variable.name}"]
        dataset[(0,) * dataset.ndim] = -2
    found = violations(broken)
    assert any(f"/{group}/{variable.name} holds values outside" in line for line in found)

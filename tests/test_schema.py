"""The vocabulary is consistent, and it is all that the package writes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradscope import schema

WEIGHTED = {"mean", "root_mean_square", "kurtosis", "log_variance"}
DERIVING = [group for group in schema.GROUPS.values() if group.derived]
EVERY = [(g, v) for g in schema.GROUPS.values() for v in g.variables.values()]


@pytest.mark.parametrize(("group", "variable"), EVERY, ids=lambda x: getattr(x, "name", None))
def test_every_variable_says_what_it_is(group, variable):
    assert variable.long_name and variable.reduction and variable.units
    assert variable.phase in {"before_step", "after_step", "forward", "backward"}
    assert variable.dims[: len(group.dims)] == group.dims or group.name == "training"
    assert all(dim in schema.INDEXES for dim in variable.dims)
    if variable.dtype != "bool":
        np.dtype(variable.dtype)


def test_names_are_unique_over_groups():
    names = [v.name for _, v in EVERY] + [n for d in schema.DERIVED.values() for n in d]
    assert len(names) == len(set(names))


def test_find_knows_stored_and_derived():
    assert schema.find("grad_norm")[0] == "gradients"
    assert schema.find("update_ratio")[0] == "updates"
    with pytest.raises(KeyError):
        schema.find("gradient_magnitude")


def test_attrs_leave_out_what_is_empty():
    assert "formula" not in schema.TRAINING.variables["loss"].attrs
    assert schema.GRADIENTS.variables["grad_norm"].attrs["formula"] == "sqrt(sum g^2)"


def test_every_quantity_of_parameters_and_layers_says_how_it_combines_and_is_drawn():
    for _, variable in (*EVERY, *((g, v) for g in DERIVING for v in g.derived.values())):
        if {"param", "layer"} & set(variable.dims):
            assert variable.scale != "auto" or variable.name == "noise_scale", variable.name
            assert variable.aggregation.rule != "none" or variable.name == "noise_scale"
        assert (variable.aggregation.weight != "") == (variable.aggregation.rule in WEIGHTED), (
            variable.name
        )
        assert all(name in schema.VARIABLES for name in variable.aggregation.of)


def test_bounds_follow_from_the_kind_of_number():
    for _, variable in EVERY:
        low, high = variable.bounds
        assert low < high
        if variable.reduction == "count":
            assert (low, high) == (0, math.inf), variable.name
        if variable.scale == "share":
            assert low == 0, variable.name

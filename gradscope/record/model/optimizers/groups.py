"""Hyper-parameters of every parameter group, read through the adapters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from gradscope.record.model.optimizers.adapter import Adapter, Constants, Group
from gradscope.record.model.optimizers.families import FAMILIES, UNKNOWN

HYPERPARAMETERS = ("lr", "alpha", "beta1", "beta2", "eps", "weight_decay")

_BY_CLASS = {name: adapter for adapter in FAMILIES for name in adapter.classes}


def adapter_of(optimizer: torch.optim.Optimizer) -> Adapter:
    """Return the adapter of an optimizer's class or of its nearest parent.

    >>> adapter_of(torch.optim.AdamW([torch.zeros(1)])).classes[0]
    'Adam'
    """
    names = (cls.__name__ for cls in type(optimizer).__mro__)
    return next((_BY_CLASS[name] for name in names if name in _BY_CLASS), UNKNOWN)


def group_of_params(optimizer: torch.optim.Optimizer) -> dict[int, tuple[Group, Constants]]:
    """Return the group of each parameter and the group's constants, by the parameter's id."""
    adapter = adapter_of(optimizer)
    groups = [(group, adapter.constants(group)) for group in optimizer.param_groups]
    return {id(p): found for found in groups for p in found[0]["params"]}


def read_groups(
    optimizers: Iterable[torch.optim.Optimizer], own_beta2: float | None
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Read every parameter group: one list for each hyper-parameter, in the order of the groups.

    The second result is what bias correction needs, ``bias_beta1`` and ``bias_beta2``: 0 for
    moments that are used as they are, NaN for a momentum that is no average and for a formula that
    is not known. ``own_beta2`` stands in where an optimizer has no second moment and the recorder
    keeps one.
    """
    columns: dict[str, list[Any]] = {name: [] for name in HYPERPARAMETERS}
    facts: dict[str, list[Any]] = {"bias_beta1": [], "bias_beta2": []}
    for optimizer in optimizers:
        adapter = adapter_of(optimizer)
        for group in optimizer.param_groups:
            values = adapter.hyperparameters(group)
            beta1, beta2 = adapter.correcting_betas(group)
            if own_beta2 is not None:
                has_own = {not _has_second_moment(adapter, optimizer, p) for p in group["params"]}
                if has_own == {True}:
                    values["beta2"] = beta2 = own_beta2
                elif True in has_own:  # one number cannot tell both
                    beta2 = math.nan
            for name, column in columns.items():
                column.append(values[name])
            facts["bias_beta1"].append(beta1)
            facts["bias_beta2"].append(beta2)
    return columns, facts


def _has_second_moment(
    adapter: Adapter, optimizer: torch.optim.Optimizer, param: torch.Tensor
) -> bool:
    state = optimizer.state.get(param, {})
    return any(name in state for name in adapter.exp_avg_sq)

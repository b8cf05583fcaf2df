"""Where each optimizer keeps its moments, and what its hyper-parameters are called here.

The recorder reads ``optimizer.state[p]`` and ``optimizer.param_groups``; no optimizer knows that it
is watched. An optimizer that this file does not know is read by the names of its state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

HYPERPARAMETERS = ("lr", "alpha", "beta1", "beta2", "eps", "weight_decay")

_SECOND = ("exp_avg_sq", "square_avg", "sum", "v", "exp_avg_sqs", "second_moment")
_FIRST = ("exp_avg", "momentum_buffer", "m", "momentum", "grad_avg")
_ADAPTIVE = {
    "Adam",
    "AdamW",
    "NAdam",
    "RAdam",
    "AMSGrad",
    "Adagrad",
    "RMSprop",
    "Adadelta",
    "Adafactor",
    "SparseAdam",
    "FusedAdam",
    "FusedAdamW",
    "DeepSpeedCPUAdam",
    "AdamW8bit",
    "LAMB",
    "Lamb",
}
_PLAIN = {"SGD", "ASGD"}


class Moments(NamedTuple):
    """The optimizer's state of one parameter; None where it keeps no such thing."""

    exp_avg_sq: Tensor | None
    exp_avg: Tensor | None
    step: float | Tensor | None


def read_moments(state: Mapping[str, Any], shape: torch.Size) -> Moments:
    """Find first and second moment and the step in the state of one parameter."""
    return Moments(_find(_SECOND, state, shape), _find(_FIRST, state, shape), state.get("step"))


def _find(names: tuple[str, ...], state: Mapping[str, Any], shape: torch.Size) -> Tensor | None:
    for name in names:
        value = state.get(name)
        if isinstance(value, Tensor) and value.shape == shape:
            return value
    return None


def class_names(optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of an optimizer's class and its parents, of the one inside for a thin wrapper."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return [cls.__name__ for cls in type(inner).__mro__]


def alpha_of(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> float:
    """Exponent of the second moment: of SMES as set, 0.5 for Adam's kin, 0 for SGD, else NaN."""
    names = class_names(optimizer)
    if any(name in _ADAPTIVE for name in names):
        return 0.5
    if any(name in _PLAIN for name in names):
        return 0.0
    return _as_float(group.get("alpha"))


def hyperparameters(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """Read one parameter group in gradscope's words; NaN where it has no such thing.

    A learning rate that is a tensor on an accelerator is returned as it is, so that nothing waits.
    """
    betas = group.get("betas") or (None, None)
    is_rmsprop = "RMSprop" in class_names(optimizer)
    beta1 = betas[0] if betas[0] is not None else group.get("momentum")
    beta2 = betas[1]
    if beta2 is None:
        beta2 = group.get("alpha") if is_rmsprop else group.get("rho")
    values = {
        "lr": group.get("lr"),
        "alpha": alpha_of(optimizer, group),
        "beta1": beta1,
        "beta2": beta2,
        "eps": group.get("eps"),
        "weight_decay": group.get("weight_decay"),
    }
    return {name: _as_float(value) for name, value in values.items()}


def _as_float(value: Any) -> Any:
    if isinstance(value, Tensor) and value.device.type != "cpu":
        return value
    return float(value) if isinstance(value, int | float | Tensor) else float("nan")


def has_bias_correction(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether the moments are divided by 1 - beta**step; RMSprop, Adagrad and SGD do not."""
    if "bias_correction" in group:
        return bool(group["bias_correction"])
    return "betas" in group


def read_groups(
    optimizers: Iterable[torch.optim.Optimizer], own_beta2: float | None
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Read every parameter group: one list for each hyper-parameter, in the order of the groups.

    The second result is what bias correction needs, ``bias_beta1`` and ``bias_beta2``: 0 for
    averages that have none, NaN for a momentum that is no average. ``own_beta2`` stands in where an
    optimizer has no second moment and the recorder keeps one.
    """
    columns: dict[str, list[Any]] = {name: [] for name in HYPERPARAMETERS}
    facts: dict[str, list[Any]] = {"bias_beta1": [], "bias_beta2": []}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            values = hyperparameters(optimizer, group)
            is_corrected, is_average = has_bias_correction(optimizer, group), "betas" in group
            if own_beta2 is not None and math.isnan(values["beta2"]):
                values["beta2"], is_corrected = own_beta2, True
            for name, column in columns.items():
                column.append(values[name])
            beta1 = values["beta1"] if is_corrected else 0.0
            facts["bias_beta1"].append(beta1 if is_average else math.nan)
            facts["bias_beta2"].append(values["beta2"] if is_corrected else 0.0)
    return columns, facts


def as_optimizers(
    optimizer: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer],
) -> dict[str, torch.optim.Optimizer]:
    """Return name to optimizer for one optimizer or several named ones.

    Raises
    ------
    TypeError
        If it is neither an optimizer nor a mapping of names to optimizers.
    """
    optimizers = optimizer if isinstance(optimizer, Mapping) else {"": optimizer}
    for name, item in optimizers.items():
        if not hasattr(item, "register_step_post_hook") or not hasattr(item, "param_groups"):
            where = f"`optimizer[{name!r}]`" if name else "`optimizer`"
            raise TypeError(
                f"{where} must be a torch Optimizer or a dict of them; got {type(item)}"
            )
    return dict(optimizers)

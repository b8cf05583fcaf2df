"""What users log: numbers by name, parted into those of the step and those of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gradscope import schema

_EVALUATION = ("train_", "val_", "test_", "eval_")
_OWN_NAMES = frozenset(schema.TRAINING.variables) - {"loss", "batch_size"} | {"step"}


def part(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part logged values into those of ``/evaluation`` and those of ``/training``.

    Raises
    ------
    ValueError
        If a name is that of a number which the recorder measures itself.
    TypeError, ValueError
        If a value is not one number.
    """
    for name, value in values.items():
        _check_number(name, value)
    declared = schema.EVALUATION.variables
    evaluation = {k: v for k, v in values.items() if k in declared or k.startswith(_EVALUATION)}
    training = {k: v for k, v in values.items() if k not in evaluation}
    for name in training:
        if name in _OWN_NAMES:
            raise ValueError(f"`{name}` is recorded by gradscope itself; log another name")
    return evaluation, training


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"`{name}` must be one number; got a tensor of {value.numel()}")
        return
    try:
        float(value)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be one number; got {type(value).__name__}") from None

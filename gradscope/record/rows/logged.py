"""What users log: numbers by name, parted into those of the step and those of an evaluation.

Files cannot hold every name: a slash becomes a dot, what is no ASCII letter, digit, dot,
dash or underscore an underscore, so that ``train/loss`` is stored as ``train.loss``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gradscope import schema

_EVALUATION = ("train_", "val_", "test_", "eval_")
_TAKEN = frozenset(schema.TRAINING.variables) - {"loss", "batch_size"} | {
    *schema.INDEXES,
    *schema.PARAM_COORDINATES,
    *schema.LAYER_COORDINATES,
}


def part(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part logged values into those of ``/evaluation`` and those of ``/training``.

    Raises
    ------
    ValueError
        If a name is empty, or that of a number which the recorder measures itself, of a dimension
        or of a coordinate.
    TypeError, ValueError
        If a value is not one number.
    """
    for name, value in values.items():
        _check_number(name, value)
    values = {stored_name(name): value for name, value in values.items()}
    declared = schema.EVALUATION.variables
    evaluation = {k: v for k, v in values.items() if k in declared or k.startswith(_EVALUATION)}
    training = {k: v for k, v in values.items() if k not in evaluation}
    return evaluation, training


def stored_name(name: str) -> str:
    """Return the name under which a logged number is stored.

    >>> stored_name("train/loss"), stored_name("my loss")
    ('train.loss', 'my_loss')
    """
    stored = re.sub(r"[^A-Za-z0-9_.-]", "_", name.replace("/", ".")).strip(".")
    if not stored.strip("._-"):
        raise ValueError(
            f"{name!r} cannot name a logged number; use ASCII letters, digits and dots"
        )
    if stored in _TAKEN:
        raise ValueError(f"`{stored}` is recorded by gradscope itself; log another name")
    return stored


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"`{name}` must be one number; got a tensor of {value.numel()}")
        return
    try:
        float(value)
    except Exception:
        raise TypeError(f"`{name}` must be one number; got {type(value).__name__}") from None

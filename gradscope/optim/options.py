"""What SMES accepts: the check of a parameter group's options."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from torch import Tensor

from gradscope.errors import unknown

SCOPES = ("element", "tensor", "residual", "global")
GRAFTS = ("none", "global", "tensor", "profile")
GRAFT_SOURCES = ("zero", "alpha")


def check_options(group: dict[str, Any]) -> None:
    """Refuse options that have no meaning, saying which would have one.

    Raises
    ------
    TypeError
        Where a number was needed and something else was given.
    ValueError
        For a number out of range, an unknown name, or options that exclude each other.
    """
    _check_number("alpha", group["alpha"], "Use 0.5 for Adam, 0 for SGD")
    _check_lr(group["lr"])
    for index, beta in enumerate(group["betas"]):
        _check_number(f"betas[{index}]", beta, "Use a number from 0 up to, not including, 1", 0, 1)
    _check_number("eps", group["eps"], "Use a number >= 0, such as 1e-8", 0)
    _check_number("weight_decay", group["weight_decay"], "Use a number >= 0; 0 is none", 0)
    for name, known in (("scope", SCOPES), ("graft", GRAFTS), ("graft_from", GRAFT_SOURCES)):
        if group[name] not in known:
            raise ValueError(unknown(name, str(group[name]), known))
    _check_paths(group)


def is_elementwise(group: dict[str, Any]) -> bool:
    """Whether every entry is updated on its own, as the fast paths need it."""
    return bool(group["scope"] == "element" and group["graft"] == "none")


def _check_number(
    name: str, value: Any, advice: str, low: float = -math.inf, below: float = math.inf
) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number; got {value!r}. {advice}")
    number = float(value)
    if not (math.isfinite(number) and low <= number < below):
        bounds = (
            "" if low == -math.inf else f" >= {low}" + (f" and < {below}" if below == 1 else "")
        )
        raise ValueError(f"`{name}` must be a finite number{bounds}; got {value}. {advice}")


def _check_lr(lr: Any) -> None:
    if not isinstance(lr, Tensor):
        return _check_number("lr", lr, "Adam's usual is 1e-3, alpha = 0 takes 1.0", 0)
    if lr.numel() != 1:
        raise ValueError(f"`lr` as a tensor must have one element; got shape {tuple(lr.shape)}")
    if lr.device.type == "cpu":  # elsewhere the check would wait for the device
        _check_lr(lr.item())
    return None


def _check_paths(group: dict[str, Any]) -> None:
    if group["foreach"] and group["fused"]:
        raise ValueError("`fused` and `foreach` cannot be True together; choose one, or neither")
    if isinstance(group["lr"], Tensor) and group["foreach"] and not group["capturable"]:
        raise ValueError("`lr` as a tensor with foreach=True needs capturable=True")
    if (group["foreach"] or group["fused"]) and not is_elementwise(group):
        raise ValueError(
            "`foreach` and `fused` need scope='element' and graft='none'; got "
            f"scope={group['scope']!r}, graft={group['graft']!r}. Leave both at None"
        )

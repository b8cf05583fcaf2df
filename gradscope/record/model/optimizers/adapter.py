"""How one family of optimizers keeps its moments and names its hyper-parameters.

The recorder reads ``optimizer.state[p]`` and ``optimizer.param_groups``; no optimizer knows that
it is watched. An adapter belongs to classes, because the same key means one thing in one class and
another elsewhere: ``alpha`` is a decay rate in RMSprop and a power of the step in ASGD.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

Group = Mapping[str, Any]
"""A parameter group."""
Read = Callable[[Group], Any]
"""Finds one hyper-parameter in a group; what it returns need not be a number."""


def key(name: str) -> Read:
    """Read an entry of the group."""
    return lambda group: group.get(name)


def pair(name: str, index: int) -> Read:
    """Read one of an entry's two numbers."""
    return item(name, index, length=2)


def item(name: str, index: int, *, length: int) -> Read:
    """Read one of an entry's numbers, if there are as many as expected."""

    def read(group: Group) -> Any:
        values = group.get(name)
        if not isinstance(values, tuple | list) or len(values) != length:
            return None
        return values[index]

    return read


def constant(value: float) -> Read:
    """Return one number for all groups."""
    return lambda _group: value


MISSING = constant(math.nan)
LR, EPS, WEIGHT_DECAY = key("lr"), key("eps"), key("weight_decay")


def always(_group: Group) -> bool | None:
    """Say that moments are divided by ``1 - beta**step``."""
    return True


def never(_group: Group) -> bool | None:
    """Say that moments are used as they are."""
    return False


def unknown(_group: Group) -> bool | None:
    """Say that it is not known whether moments are divided by ``1 - beta**step``."""
    return None


def as_set(*names: str) -> Callable[[Group], bool | None]:
    """Read a switch of the group that is on unless it says otherwise; None if it is no switch."""

    def read(group: Group) -> bool | None:
        values = [group.get(name, True) for name in names]
        return all(values) if all(isinstance(value, bool | int) for value in values) else None

    return read


class Moments(NamedTuple):
    """The optimizer's state of one parameter; None where it keeps no such thing."""

    exp_avg_sq: Tensor | None
    exp_avg: Tensor | None
    step: float | Tensor | None


class Constants(NamedTuple):
    """What a group's moments are judged by, as floats; NaN where unknown.

    ``beta2`` is 0 where the second moment is not divided by ``1 - beta2**step``.
    """

    alpha: float
    beta2: float
    eps: float


@dataclass(frozen=True)
class Adapter:
    """One family of optimizers.

    Parameters
    ----------
    classes : tuple of str
        Names of its classes; their subclasses belong to the family too.
    alpha : callable
        Exponent of the second moment in the update: 0.5 for Adam, 0 for SGD.
    exp_avg_sq, exp_avg : tuple of str
        Keys of the state that may hold the second moment, and an average of gradients or their
        momentum.
    beta1, beta2, eps, weight_decay, lr : callable
        Read one hyper-parameter of a group, None or NaN where there is none.
    is_bias_corrected : callable
        Whether moments are divided by ``1 - beta**step``; None where that is not known.
    is_average : bool
        Whether ``exp_avg`` is an average: the weights of its gradients add up to 1, once corrected.
    group_step : str
        Key of the group that counts steps, where the state has no ``step``.
    """

    classes: tuple[str, ...]
    alpha: Read = MISSING
    exp_avg_sq: tuple[str, ...] = ()
    exp_avg: tuple[str, ...] = ()
    beta1: Read = MISSING
    beta2: Read = MISSING
    eps: Read = EPS
    weight_decay: Read = WEIGHT_DECAY
    lr: Read = LR
    is_bias_corrected: Callable[[Group], bool | None] = never
    is_average: bool = True
    group_step: str = "step"

    def moments(self, state: Mapping[str, Any], group: Group, shape: torch.Size) -> Moments:
        """Find both moments and the step of one parameter in its state."""
        return Moments(
            _find(self.exp_avg_sq, state, shape),
            _find(self.exp_avg, state, shape),
            self.step_of(state, group),
        )

    def step_of(self, state: Mapping[str, Any], group: Group) -> float | Tensor | None:
        """Find the number of steps of one parameter in its state, or in its group."""
        step = state.get("step")
        if step is None:
            step = group.get(self.group_step)
        return step if isinstance(step, Tensor) or is_number(step) else None

    def hyperparameters(self, group: Group) -> dict[str, float | Tensor]:
        """Read a group in gradscope's words; NaN where it has no such thing.

        A tensor on an accelerator is returned as it is, so that nothing waits.
        """
        return {
            "lr": as_number(self.lr(group)),
            "alpha": as_number(self.alpha(group)),
            "beta1": as_number(self.beta1(group)),
            "beta2": as_number(self.beta2(group)),
            "eps": as_number(self.eps(group)),
            "weight_decay": as_number(self.weight_decay(group)),
        }

    def correcting_betas(self, group: Group) -> tuple[float | Tensor, float | Tensor]:
        """Return beta1 and beta2 as bias correction needs them.

        They are 0 for moments that are used as they are, NaN for a momentum that is no average.
        """
        is_corrected = self.is_bias_corrected(group)
        if is_corrected is None:
            return math.nan, math.nan
        beta1 = as_number(self.beta1(group)) if is_corrected else 0.0
        beta2 = as_number(self.beta2(group)) if is_corrected else 0.0
        return (beta1 if self.is_average else math.nan), beta2

    def constants(self, group: Group) -> Constants:
        """Return what the second moments of a group are judged by, without waiting for a device."""
        beta2 = self.correcting_betas(group)[1]
        numbers_ = (as_number(self.alpha(group)), beta2, as_number(self.eps(group)))
        return Constants(*(math.nan if isinstance(x, Tensor) else x for x in numbers_))


def as_number(value: Any) -> float | Tensor:
    """Return a float, a tensor on an accelerator as it is, NaN for what is no number."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            return math.nan
        return float(value) if value.device.type == "cpu" else value
    return float(value) if is_number(value) else math.nan


def is_number(value: Any) -> bool:
    """Whether this is a real number, of Python or NumPy."""
    return isinstance(value, numbers.Real)


def _find(names: tuple[str, ...], state: Mapping[str, Any], shape: torch.Size) -> Tensor | None:
    """Return the first entry that has a number for each entry of the parameter."""
    for name in names:
        value = state.get(name)
        if isinstance(value, Tensor) and value.shape == shape and not _is_quantized(value):
            return value
    return None


def _is_quantized(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex())

"""Alpha over time and over depth, beside torch's schedulers of the learning rate.

Call ``step()`` after the optimizer's. The alpha in force stands in ``group["alpha"]``, where a
recorder and a checkpoint find it; v is kept at every alpha, so alpha may pass through 0 and return.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer


class AlphaScheduler:
    """Set alpha of every parameter group from a function of the step and the group.

    Parameters
    ----------
    optimizer : Optimizer
        One whose groups have ``alpha``, such as `gradscope.SMES`.
    alpha_at : callable
        ``(step, group) -> alpha``, step counted from 0.

    Raises
    ------
    ValueError
        Where a group has no alpha.

    Examples
    --------
    >>> import torch
    >>> from gradscope import SMES
    >>> optimizer = SMES([torch.nn.Parameter(torch.zeros(1))])
    >>> scheduler = AlphaScheduler(optimizer, lambda step, group: 0.1 * step)
    >>> scheduler.step()
    >>> scheduler.get_last_alpha()
    [0.1]
    """

    def __init__(
        self, optimizer: Optimizer, alpha_at: Callable[[int, dict[str, Any]], float]
    ) -> None:
        if not all("alpha" in group for group in optimizer.param_groups):
            raise ValueError(
                f"{type(optimizer).__name__} has no alpha to schedule; use gradscope.SMES"
            )
        self.optimizer = optimizer
        self.alpha_at = alpha_at
        self.last_step = 0
        self._apply()

    def step(self) -> None:
        """Go on to the next step's alpha."""
        self.last_step += 1
        self._apply()

    def get_last_alpha(self) -> list[float]:
        """Return the alpha in force, group by group."""
        return [group["alpha"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return where the schedule stands; the function itself is not saved."""
        return {"last_step": self.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where a saved schedule stood and set its alpha."""
        self.last_step = int(state_dict["last_step"])
        self._apply()

    def _apply(self) -> None:
        for group in self.optimizer.param_groups:
            alpha = float(self.alpha_at(self.last_step, group))
            if not math.isfinite(alpha):
                raise ValueError(
                    f"`alpha` must be a finite number; the schedule gave {alpha} "
                    f"at step {self.last_step}"
                )
            group["alpha"] = alpha


def constant(alpha: float) -> Callable[[int, dict[str, Any]], float]:
    """Keep one alpha."""
    return lambda step, group: alpha


def linear(start: float, end: float, n_steps: int) -> Callable[[int, dict[str, Any]], float]:
    """Go from ``start`` to ``end`` in ``n_steps`` equal steps and stay there."""
    _check_length("n_steps", n_steps)
    return lambda step, group: _between(start, end, min(step / n_steps, 1.0))


def cosine(start: float, end: float, n_steps: int) -> Callable[[int, dict[str, Any]], float]:
    """Go from ``start`` to ``end`` along half a cosine in ``n_steps`` steps and stay there."""
    _check_length("n_steps", n_steps)
    return lambda step, group: _between(end, start, _cosine(min(step / n_steps, 1.0) / 2))


def cyclic(low: float, high: float, period: int) -> Callable[[int, dict[str, Any]], float]:
    """Swing from ``low`` to ``high`` and back in ``period`` steps, as a cosine.

    References
    ----------
    arXiv:2509.04713 schedules the exponent cyclically; the cosine is our choice of form.
    """
    _check_length("period", period)
    return lambda step, group: _between(high, low, _cosine(step / period))


def by_depth(first: float, last: float) -> Callable[[int, dict[str, Any]], float]:
    """Go from ``first`` at the input to ``last`` at the output, along ``relative_depth``.

    Every parameter group needs the key ``relative_depth``, from 0 at the input to 1 at the output.

    Raises
    ------
    KeyError
        Where a group has none.
    """

    def alpha_at(step: int, group: dict[str, Any]) -> float:
        if "relative_depth" not in group:
            raise KeyError(
                "a parameter group has no 'relative_depth'; give each group one, such as "
                "{'params': ..., 'relative_depth': 0.5}"
            )
        return _between(first, last, float(group["relative_depth"]))

    return alpha_at


def _between(start: float, end: float, share: float) -> float:
    """Interpolate, exact at both ends."""
    return (1 - share) * start + share * end


def _cosine(turns: float) -> float:
    """Return a cosine of height 1, from 1 at 0 to 0 at half a turn."""
    return (1 + math.cos(2 * math.pi * turns)) / 2


def _check_length(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1; got {value}")

"""Raw sums of gradient, update and moments from the pass that makes a step.

An optimizer reads and writes every entry anyway and can sum them on the way. To get the sums of its
next step, call ``optimizer.sum_next_step(params, out, below, above)``. The `StepSums` that it
returns says which rows the step will fill and, after the step, which it has filled. The optimizer
does not know what the sums are for. Its weights are the same bits with and without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

STEP_SUMS = (
    "grad_sum",
    "grad_abs_sum",
    "grad_square_sum",
    "grad_fourth_sum",
    "grad_abs_max",
    "grad_n_zero",
    "grad_n_nonfinite",
    "grad_param_dot",
    "param_square_sum",
    "update_square_sum",
    "update_grad_dot",
    "update_param_dot",
    "moment_sum",
    "moment_max",
    "moment_log_sum",
    "moment_log_square_sum",
    "moment_n_zero",
    "moment_n_nonfinite",
    "moment_n_epsilon",
    "exp_avg_square_sum",
)
"""Columns of the result, over finite entries; the parameter is that before the step.

``moment`` is the second raw moment after the step, ``moment_n_epsilon`` counts its entries at or
beyond the thresholds, ``update`` is the parameter after minus before.
"""
MAXIMA = tuple(i for i, name in enumerate(STEP_SUMS) if name.endswith("_max"))
"""Columns that combine by maximum; all others add."""


@dataclass
class StepSums:
    """A request for the sums of the next step.

    Parameters
    ----------
    params : sequence of Tensor
        Parameters of interest.
    out : Tensor, float64, (len(params), at least len(STEP_SUMS)), in main memory
        Rows to fill, in the order of `STEP_SUMS`.
    below, above : Tensor, float64, (len(params),)
        Second moments at or beyond these are counted in ``moment_n_epsilon``.
    """

    params: Sequence[Tensor]
    out: Tensor
    below: Tensor
    above: Tensor
    accepted: list[int] = field(default_factory=list)
    """Positions whose rows the next step will fill, unless a gradient scaler skips it."""
    filled: list[int] = field(default_factory=list)
    """Positions whose rows it has filled."""

    def __post_init__(self) -> None:
        self._position_of = {id(p): i for i, p in enumerate(self.params)}

    def positions(self, params: Sequence[Tensor]) -> list[int | None]:
        """Return where parameters stand in the request; None for those it does not name."""
        return [self._position_of.get(id(p)) for p in params]

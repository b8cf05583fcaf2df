"""Raw sums that an optimizer makes in the pass of its own step, where it offers to.

An optimizer offers by a method ``sum_next_step(params, out, below, above)``, as `gradscope.SMES`
does. It returns an object whose ``accepted`` lists the positions in ``params`` whose rows of
``out`` the next step will fill, and whose ``filled`` lists, after the step, those that it has
filled. The columns are the first 20 of `PARAM_SUMS`. All else is measured in separate passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradscope.record.measure.lost import PARAM_SQUARES, UPDATE_SQUARES, blank_lost
from gradscope.record.measure.reference.backend import Backend, Picked
from gradscope.record.measure.reference.sums import MOMENT, UPDATE


class OfferedSums:
    """A backend that leaves out what the optimizer has accepted to sum.

    Parameters
    ----------
    backend : Backend
        For everything else.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.add_output = backend.add_output
        self.log2_counts = backend.log2_counts
        self._optimizer: Any = None
        self._request: Any = None
        self._out = torch.empty(0, device="cpu")
        self._rows: Sequence[int] = ()
        self._served: set[int] = set()
        self._served_params: set[int] = set()

    def is_offered(self, optimizer: Any, params: Sequence[Tensor]) -> bool:
        """Whether it makes sense to ask: the optimizer may offer sums of tensors in main memory."""
        return bool(params) and _sums_its_step(type(optimizer)) and params[0].is_cpu

    def is_served(self, param: Tensor) -> bool:
        """Whether the optimizer has accepted to sum the update of a parameter."""
        return id(param) in self._served_params

    def has_summed(self, rows: Sequence[int]) -> bool:
        """Whether all sums of these rows have come from the optimizer."""
        return bool(self._served) and self._served.issuperset(rows)

    def forget(self) -> None:
        """Begin a step for which nothing has been asked."""
        self._request, self._served, self._served_params = None, set(), set()

    def ask(
        self,
        optimizer: Any,
        rows: Sequence[int],
        params: Sequence[Tensor],
        edges: tuple[Tensor, Tensor],
    ) -> None:
        """Ask for the sums of the next step.

        Parameters
        ----------
        optimizer : Optimizer
        rows : sequence of int
        params : sequence of Tensor
            The parameters of the rows, as the optimizer holds them.
        edges : pair of Tensor, float64, (len(rows),)
            See `EpsilonEdges.at`, for the count of the step to come.
        """
        self._rows, self._optimizer = rows, optimizer
        self._out = torch.zeros((len(rows), MOMENT.stop), dtype=torch.float64, device="cpu")
        self._request = optimizer.sum_next_step(params, self._out, *edges)
        self._served = {rows[i] for i in self._request.accepted}
        self._served_params = {id(params[i]) for i in self._request.accepted}

    def gradients(
        self,
        out: Tensor,
        rows: Sequence[int],
        grads: Sequence[Tensor],
        params: Sequence[Tensor],
        copies: Sequence[Tensor],
    ) -> None:
        """See `Backend`."""
        some = self._left(rows)
        self._backend.gradients(out, some(rows), some(grads), some(params), some(copies))
        blank_lost(out, some(rows), some(params), PARAM_SQUARES)

    def updates(
        self,
        out: Tensor,
        rows: Sequence[int],
        before: Sequence[Tensor],
        after: Sequence[Tensor],
        grads: Sequence[Tensor],
    ) -> None:
        """See `Backend`; also take over what the optimizer has summed."""
        some = self._left(rows)
        self._backend.updates(out, some(rows), some(before), some(after), some(grads))
        blank_lost(out, some(rows), some(before), UPDATE_SQUARES)
        if self._request is not None:
            self._take_over(out, rows, after, grads)
        blank_lost(out, rows, after, UPDATE_SQUARES)

    def _take_over(
        self, out: Tensor, rows: Sequence[int], after: Sequence[Tensor], grads: Sequence[Tensor]
    ) -> None:
        filled = list(self._request.filled)
        rows_filled = [self._rows[i] for i in filled]
        out.numpy()[rows_filled, : MOMENT.stop] = self._out.numpy()[filled]
        unfilled = self._served.difference(rows_filled)
        if unfilled:
            self._measure_unfilled(out, rows, after, grads, unfilled)
        self._served -= unfilled

    def _measure_unfilled(
        self,
        out: Tensor,
        rows: Sequence[int],
        after: Sequence[Tensor],
        grads: Sequence[Tensor],
        unfilled: set[int],
    ) -> None:
        """Measure rows that were accepted and not filled: the step was skipped, or took a detour.

        A skipped step has left the parameters as they were. Else the update is not known.
        """
        some = Picked([i for i, row in enumerate(rows) if row in unfilled])
        theta = some(after)
        self._backend.gradients(out, some(rows), some(grads), theta, [])
        self._backend.updates(out, some(rows), theta, theta, some(grads))
        found_inf = getattr(self._optimizer, "found_inf", None)
        if found_inf is None or not float(found_inf):
            out[some(rows), UPDATE] = torch.nan

    def moments(
        self,
        out: Tensor,
        rows: Sequence[int],
        exp_avg_sqs: Sequence[Tensor],
        exp_avgs: Sequence[Tensor | None],
        below: Tensor,
        above: Tensor,
    ) -> None:
        """See `Backend`."""
        left = [i for i, row in enumerate(rows) if row not in self._served]
        some = self._left(rows)
        if left:
            v, m = some(exp_avg_sqs), some(exp_avgs)
            self._backend.moments(out, some(rows), v, m, below[left], above[left])

    def _left(self, rows: Sequence[int]) -> Picked:
        return Picked([i for i, row in enumerate(rows) if row not in self._served])


def _sums_its_step(cls: type) -> bool:
    """Whether a class offers sums of its own step; a subclass may do more than its parent's."""
    owner = next((c for c in cls.__mro__ if "sum_next_step" in vars(c)), None)
    return owner is not None and inspect.unwrap(cls.step) is inspect.unwrap(owner.step)  # type: ignore[attr-defined]

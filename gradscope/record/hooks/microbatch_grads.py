"""The gradient of each micro-batch, for the noise scale: hooks on the parameters themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from gradscope.record.guard import Guard
from gradscope.record.hooks.passes import Passes
from gradscope.record.measure.dense import dense
from gradscope.record.measure.reference.sums import OUTPUT_SUMS
from gradscope.record.model.params import ParamTable

_SQUARE_SUM = OUTPUT_SUMS.index("square_sum")


class MicroBatches:
    """Sums the squared norm of what each counted backward call adds to each gradient.

    Parameters
    ----------
    table : ParamTable
    add_output : callable
        Adds the sums of a tensor to a row of `sums.OUTPUT_SUMS`.
    passes : Passes
        Says which backward calls count.
    guard : Guard
    """

    def __init__(
        self,
        table: ParamTable,
        add_output: Callable[[Tensor, Tensor], None],
        passes: Passes,
        device: torch.device,
        guard: Guard,
    ) -> None:
        shape = (len(table.params), len(OUTPUT_SUMS))
        self._sums = torch.zeros(shape, dtype=torch.float64, device=device)
        self._add_output = add_output
        self._passes = passes
        self._params = [param.tensor for param in table.params]
        self._seen: set[int] = set()
        self._is_whole = False  # the hooks come when the first step's gradients are already there
        add = guard.wrap(self._add)
        self._handles = [
            param.tensor.register_hook(functools.partial(add, row))
            for row, param in enumerate(table.params)
            if param.tensor.requires_grad
        ]

    def _add(self, row: int, grad: Tensor) -> None:
        values = dense(grad.detach()) if self._passes.is_counting else None
        if values is not None:
            self._seen.add(row)
            self._add_output(values, self._sums[row])

    def take(self) -> Tensor | None:
        """Hand over the sums of squares (param,), float64, and start afresh.

        NaN for a gradient other than 0 of which no hook told: torch drops the hooks of a tensor
        that it swaps.
        """
        taken = self._sums[:, _SQUARE_SUM].clone()
        for row, param in enumerate(self._params):
            if row not in self._seen and param.grad is not None:
                values = dense(param.grad.detach())
                untold = True if values is None else values.any()
                taken[row] = taken[row].masked_fill(
                    torch.as_tensor(untold, device=taken.device), torch.nan
                )
        is_whole = self._is_whole
        self.discard()
        return taken if is_whole else None

    def discard(self) -> None:
        """Start afresh."""
        self._sums.zero_()
        self._seen.clear()
        self._is_whole = True

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

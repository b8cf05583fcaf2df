"""The gradient of each micro-batch, for the noise scale: hooks on the parameters themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from gradscope.record.measure.reference.sums import OUTPUT_SUMS
from gradscope.record.model.params import ParamTable

_SQUARE_SUM = OUTPUT_SUMS.index("square_sum")


class MicroBatches:
    """Sums the squared norm of what each backward pass adds to each gradient.

    Parameters
    ----------
    table : ParamTable
    add_output : callable
        Adds the sums of a tensor to a row of `measures.OUTPUT_SUMS`.
    """

    def __init__(
        self, table: ParamTable, add_output: Callable[[Tensor, Tensor], None], device: torch.device
    ) -> None:
        shape = (len(table.params), len(OUTPUT_SUMS))
        self._sums = torch.zeros(shape, dtype=torch.float64, device=device)
        self._add_output = add_output
        self._handles = [
            param.tensor.register_hook(functools.partial(self._add, row))
            for row, param in enumerate(table.params)
            if param.tensor.requires_grad
        ]

    def _add(self, row: int, grad: Tensor) -> None:
        self._add_output(grad.detach(), self._sums[row])

    def take(self) -> Tensor:
        """Hand over the sums of squares (param,), float64, and start afresh."""
        taken = self._sums[:, _SQUARE_SUM].clone()
        self._sums.zero_()
        return taken

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

"""The contract of a backend, and the one that works everywhere: raw sums by the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from gradscope.record.measure.reference import sums as reference
from gradscope.record.measure.reference.sums import GRADIENT, MOMENT, UPDATE

_T = TypeVar("_T")


class Backend(Protocol):
    """Fills rows of raw sums.

    ``out`` is (param, len(PARAM_SUMS)), float64, on the device; item i of each sequence belongs to
    row ``rows[i]``.
    """

    def add_output(self, tensor: Tensor, sums: Tensor) -> None:
        """Add one call of a layer to its row of `sums.OUTPUT_SUMS`."""

    def gradients(
        self,
        out: Tensor,
        rows: Sequence[int],
        grads: Sequence[Tensor],
        params: Sequence[Tensor],
        copies: Sequence[Tensor],
    ) -> None:
        """Measure gradients, and copy each parameter for the update (no copies: do not)."""

    def updates(
        self,
        out: Tensor,
        rows: Sequence[int],
        before: Sequence[Tensor],
        after: Sequence[Tensor],
        grads: Sequence[Tensor],
    ) -> None:
        """Measure what the step did."""

    def moments(
        self,
        out: Tensor,
        rows: Sequence[int],
        exp_avg_sqs: Sequence[Tensor],
        exp_avgs: Sequence[Tensor | None],
        below: Tensor,
        above: Tensor,
    ) -> None:
        """Measure the moments after the step."""

    def log2_counts(
        self, out: Tensor, rows: Sequence[int], tensors: Sequence[Tensor], bins: tuple[int, int]
    ) -> None:
        """Fill rows of `sums.log2_counts`; ``out`` is (param, n_bins + 4)."""


class ReferenceBackend:
    """The functions of `sums`, tensor by tensor: any device, any dtype, any layout."""

    def add_output(self, tensor: Tensor, sums: Tensor) -> None:
        """See `Backend`."""
        reference.add_output(tensor, sums)

    def gradients(
        self,
        out: Tensor,
        rows: Sequence[int],
        grads: Sequence[Tensor],
        params: Sequence[Tensor],
        copies: Sequence[Tensor],
    ) -> None:
        """See `Backend`."""
        for row, grad, param in zip(rows, grads, params, strict=True):
            out[row, GRADIENT] = reference.gradient_sums(grad, param)
        if copies:
            torch._foreach_copy_(list(copies), list(params))

    def updates(
        self,
        out: Tensor,
        rows: Sequence[int],
        before: Sequence[Tensor],
        after: Sequence[Tensor],
        grads: Sequence[Tensor],
    ) -> None:
        """See `Backend`."""
        for row, old, new, grad in zip(rows, before, after, grads, strict=True):
            out[row, UPDATE] = reference.update_sums(old, new, grad)

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
        for i, (row, v, m) in enumerate(zip(rows, exp_avg_sqs, exp_avgs, strict=True)):
            edges = below[i].to(v.device), above[i].to(v.device)  # a model may have moved
            out[row, MOMENT] = reference.moment_sums(v, m, *edges)

    def log2_counts(
        self, out: Tensor, rows: Sequence[int], tensors: Sequence[Tensor], bins: tuple[int, int]
    ) -> None:
        """See `Backend`."""
        for row, tensor in zip(rows, tensors, strict=True):
            out[row] = reference.log2_counts(tensor, bins)


class Picked:
    """Pick the same positions of several sequences; nothing of an empty one."""

    def __init__(self, positions: Sequence[int]) -> None:
        self._positions = positions

    def __call__(self, items: Sequence[_T]) -> list[_T]:
        """Return the items at the positions."""
        return [items[i] for i in self._positions] if items else []

"""Which code turns tensors into raw sums: the fastest that this machine and these tensors allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gradscope.record.measure.reference import sums as reference
from gradscope.record.measure.reference.sums import GRADIENT, MOMENT, UPDATE


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

    def octaves(
        self, out: Tensor, rows: Sequence[int], tensors: Sequence[Tensor], bins: tuple[int, int]
    ) -> None:
        """Fill rows of `sums.octave_counts`; ``out`` is (param, n_bins + 4)."""


class ReferenceBackend:
    """`measures`, tensor by tensor: any device, any dtype, any layout."""

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
            out[row, MOMENT] = reference.moment_sums(v, m, below[i], above[i])

    def octaves(
        self, out: Tensor, rows: Sequence[int], tensors: Sequence[Tensor], bins: tuple[int, int]
    ) -> None:
        """See `Backend`."""
        for row, tensor in zip(rows, tensors, strict=True):
            out[row] = reference.octave_counts(tensor, bins)


def choose_backend(device: torch.device) -> Backend:
    """Return the fastest backend for a device; the reference where nothing better can be had."""
    if device.type == "cpu":
        try:
            from gradscope.record.measure.cpu.backend import CompiledBackend
        except ImportError:  # a Python for which the compiler is not out yet
            return ReferenceBackend()
        return CompiledBackend()
    if device.type == "cuda":
        return _cuda_backend(device)
    return ReferenceBackend()


def _cuda_backend(device: torch.device) -> Backend:
    """Return the kernels for a GPU, or the reference where triton is missing or cannot compile."""
    try:
        from gradscope.record.measure.cuda.backend import CudaBackend
    except ImportError:
        return ReferenceBackend()
    backend = CudaBackend(device)
    try:
        backend.probe()
    except Exception:  # whatever keeps triton from compiling here must not keep us from recording
        return ReferenceBackend()
    return backend

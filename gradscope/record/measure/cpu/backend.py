"""The backend for tensors in main memory: `kernels_cpu` where they fit, the reference elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gradscope.native.threads import Threads
from gradscope.record.measure.choose import ReferenceBackend
from gradscope.record.measure.cpu import kernels
from gradscope.record.measure.reference.sums import (
    GRADIENT,
    MAXIMA,
    MOMENT,
    OUTPUT_SUMS,
    PARAM_SUMS,
    UPDATE,
)

N_WORDS = len(kernels.JOB)
PART = 65_536
"""Entries that are worth waking a thread for."""
MOST_PARTS = 32
"""More parts than threads, so that none waits long for the last; their sums are added by NumPy."""

_T = TypeVar("_T")


class CompiledBackend(ReferenceBackend):
    """Float32 tensors on the CPU in one pass, on as many threads as torch uses.

    The first use on a machine compiles for some seconds; later ones load what was compiled. Tensors
    of another dtype, or with gaps in memory, go through the reference.
    """

    def __init__(self) -> None:
        self._threads = Threads()
        self._small = _Small()

    def add_output(self, tensor: Tensor, sums: Tensor) -> None:
        """See `Backend`."""
        if not _is_plain(tensor):
            super().add_output(tensor, sums)
            return
        n = tensor.numel()
        if _n_parts(n) == 1:  # as most are: added to the sums at once, with little around it
            words = self._small.words
            words[0], words[2], words[6] = 0, n, sums.data_ptr()
            words[N_WORDS], words[N_WORDS + 1] = tensor.data_ptr(), n
            self._threads.run(kernels.outputs, self._small.address, 1)
            return
        table, numel = np.array([[tensor.data_ptr()], [n]])
        parts = self._sum(kernels.outputs, table, numel, len(OUTPUT_SUMS))[:, 0]
        target = sums.numpy()
        peak = max(target[2], parts[:, 2].max())
        target += parts.sum(axis=0)
        target[2] = peak

    def gradients(
        self,
        out: Tensor,
        rows: Sequence[int],
        grads: Sequence[Tensor],
        params: Sequence[Tensor],
        copies: Sequence[Tensor],
    ) -> None:
        """See `Backend`."""
        streams = [grads, params, copies] if copies else [grads, params]
        slow = self._run(kernels.gradients, out, rows, streams, GRADIENT, width=3)
        if slow:
            some = _Picked(slow)
            super().gradients(out, some(rows), some(grads), some(params), some(copies))

    def updates(
        self,
        out: Tensor,
        rows: Sequence[int],
        before: Sequence[Tensor],
        after: Sequence[Tensor],
        grads: Sequence[Tensor],
    ) -> None:
        """See `Backend`."""
        slow = self._run(kernels.updates, out, rows, [before, after, grads], UPDATE, width=3)
        if slow:
            some = _Picked(slow)
            super().updates(out, some(rows), some(before), some(after), some(grads))

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
        edges = _round_inward(below.numpy(), above.numpy())
        slow = self._run(
            kernels.moments, out, rows, [exp_avg_sqs, exp_avgs], MOMENT, width=2, edges=edges
        )
        if slow:
            some = _Picked(slow)
            super().moments(
                out, some(rows), some(exp_avg_sqs), some(exp_avgs), below[slow], above[slow]
            )
        missing = [row for row, m in zip(rows, exp_avgs, strict=True) if m is None]
        out[missing, PARAM_SUMS.index("exp_avg_square_sum")] = torch.nan

    def octaves(
        self, out: Tensor, rows: Sequence[int], tensors: Sequence[Tensor], bins: tuple[int, int]
    ) -> None:
        """See `Backend`."""
        every = slice(0, out.shape[1])
        slow = self._run(
            kernels.octaves, out, rows, [tensors], every, width=1, low_high=bins, names=()
        )
        if slow:
            some = _Picked(slow)
            super().octaves(out, some(rows), some(tensors), bins)

    def _run(
        self,
        kernel: Any,
        out: Tensor,
        rows: Sequence[int],
        streams: Sequence[Sequence[Tensor | None]],
        columns: slice,
        *,
        width: int,
        edges: tuple[np.ndarray, ...] = (),
        low_high: tuple[int, int] = (0, 0),
        names: tuple[str, ...] = PARAM_SUMS,
    ) -> list[int]:
        """Run a kernel over what fits; return the positions of what does not."""
        fits = [_fit_together(first, others) for first, *others in zip(*streams, strict=True)]
        fast, slow = (
            [i for i, fit in enumerate(fits) if fit is wanted] for wanted in (True, False)
        )
        if not fast:
            return slow
        some = _Picked(fast) if slow else list
        table = np.zeros((len(fast), width), dtype=np.int64)
        for column, stream in enumerate(streams):
            table[:, column] = [0 if t is None else t.data_ptr() for t in some(stream)]
        numel = np.array([t.numel() for t in some(streams[0]) if t is not None], dtype=np.int64)
        kept = [edge[fast] for edge in edges]
        low, high = (edge.ctypes.data for edge in kept) if kept else low_high
        parts = self._sum(kernel, table, numel, columns.stop - columns.start, low, high)
        maxima = tuple(i for i, name in enumerate(names[columns]) if name in MAXIMA)
        out.numpy()[some(rows), columns] = _combine(parts, maxima)
        return slow

    def _sum(
        self,
        kernel: Any,
        table: np.ndarray,
        numel: np.ndarray,
        n_sums: int,
        low: int = 0,
        high: int = 0,
    ) -> np.ndarray:
        """Call a kernel on all threads; return its sums, (part, tensor, sum).

        The parts depend on the number of entries alone, so that results do not on that of threads.
        """
        n = int(numel.sum())
        n_parts = _n_parts(n)
        out = np.zeros((n_parts, len(numel), n_sums))
        pointers = [array.ctypes.data for array in (table, numel, out)]
        job = np.array([0, n_parts, n, len(numel), *pointers, n_sums, low, high], dtype=np.int64)
        self._threads.run(kernel, job.ctypes.data, min(n_parts, torch.get_num_threads()))
        return out


class _Small(threading.local):
    """The job of one output, kept between calls; each thread that trains has its own."""

    def __init__(self) -> None:
        self.words = np.zeros(N_WORDS + 2, dtype=np.int64)
        self.address = self.words.ctypes.data
        table = self.address + 8 * N_WORDS
        self.words[1:8] = [1, 0, 1, table, table + 8, 0, len(OUTPUT_SUMS)]


def _n_parts(n: int) -> int:
    return min(max(n // PART, 1), MOST_PARTS)


class _Picked:
    """Picks the same positions of several sequences; nothing of an empty one."""

    def __init__(self, positions: list[int]) -> None:
        self._positions = positions

    def __call__(self, items: Sequence[_T]) -> list[_T]:
        return [items[i] for i in self._positions] if items else []


_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def _is_plain(tensor: Tensor) -> bool:
    """Float32 in main memory without gaps or overlaps."""
    return (
        tensor.dtype is torch.float32
        and tensor.is_cpu
        and type(tensor) in _PLAIN_TYPES
        and (tensor.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense(tensor))
    )


def _fit_together(first: Tensor, others: Iterable[Tensor | None]) -> bool:
    """Whether entry i of one belongs to entry i of the others, in memory order."""
    if not _is_plain(first):
        return False
    strides = first.stride()
    for t in others:
        if t is not None and not (
            t.dtype is torch.float32
            and t.stride() == strides
            and t.is_cpu
            and type(t) in _PLAIN_TYPES
        ):
            return False
    return True


def _combine(parts: np.ndarray, maxima: tuple[int, ...]) -> np.ndarray:
    """Add what the parts summed; some columns by maximum."""
    combined = parts.sum(axis=0)
    combined[:, maxima] = parts[:, :, maxima].max(axis=0)
    return combined


def _round_inward(below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round thresholds to the float32 that compare with float32 entries as the exact ones do."""
    with np.errstate(over="ignore"):
        low, high = below.astype(np.float32), above.astype(np.float32)
    low = np.where(low > below, np.nextafter(low, np.float32(-np.inf)), low)
    high = np.where(high < above, np.nextafter(high, np.float32(np.inf)), high)
    return low, high

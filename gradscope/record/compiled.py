"""The backend for tensors in main memory: `kernels_cpu` where they fit, the reference elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gradscope.record import kernels_cpu
from gradscope.record.backends import ReferenceBackend
from gradscope.record.measures import GRADIENT, MAXIMA, MOMENT, PARAM_SUMS, UPDATE

PARALLEL_FROM = 262_144
"""Entries from which a second thread is worth waking."""

_T = TypeVar("_T")


class CompiledBackend(ReferenceBackend):
    """Float32 tensors on the CPU in one pass, on as many threads as torch uses.

    The first use on a machine compiles for some seconds; later ones load what was compiled. Tensors
    of another dtype, or with gaps in memory, go through the reference.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pool_pid = 0

    def add_output(self, tensor: Tensor, sums: Tensor) -> None:
        """See `Backend`."""
        if not _is_plain(tensor):
            super().add_output(tensor, sums)
            return
        n, address = tensor.numel(), tensor.data_ptr()
        target = sums.numpy()
        if n < PARALLEL_FROM:
            kernels_cpu.outputs(address, 0, n, target)
            return
        parts = self._share(
            lambda first, last, out: kernels_cpu.outputs(address, first, last, out),
            n, (6,), block=kernels_cpu.BLOCK,
        )  # fmt: skip
        for part in parts:
            peak = max(target[2], part[2])
            target += part
            target[2] = peak

    def gradients(
        self, out: Tensor, rows: Sequence[int], grads: Sequence[Tensor], params: Sequence[Tensor],
        copies: Sequence[Tensor],
    ) -> None:  # fmt: skip
        """See `Backend`."""
        streams = [grads, params, copies] if copies else [grads, params]
        slow = self._run(kernels_cpu.gradients, out, rows, streams, GRADIENT, width=3)
        if slow:
            some = _Picked(slow)
            super().gradients(out, some(rows), some(grads), some(params), some(copies))

    def updates(
        self, out: Tensor, rows: Sequence[int], before: Sequence[Tensor], after: Sequence[Tensor],
        grads: Sequence[Tensor],
    ) -> None:  # fmt: skip
        """See `Backend`."""
        slow = self._run(kernels_cpu.updates, out, rows, [before, after, grads], UPDATE, width=3)
        if slow:
            some = _Picked(slow)
            super().updates(out, some(rows), some(before), some(after), some(grads))

    def moments(
        self, out: Tensor, rows: Sequence[int], exp_avg_sqs: Sequence[Tensor],
        exp_avgs: Sequence[Tensor | None], below: Tensor, above: Tensor,
    ) -> None:  # fmt: skip
        """See `Backend`."""
        edges = _round_inward(below.numpy(), above.numpy())
        slow = self._run(
            kernels_cpu.moments, out, rows, [exp_avg_sqs, exp_avgs], MOMENT, width=2, extra=edges
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

        def kernel(*arguments: Any) -> None:
            *shared, part = arguments
            kernels_cpu.octaves(*shared, *bins, part)

        every = slice(0, out.shape[1])
        slow = self._run(kernel, out, rows, [tensors], every, width=1, names=())
        if slow:
            some = _Picked(slow)
            super().octaves(out, some(rows), some(tensors), bins)

    def _run(
        self, kernel: Callable[..., None], out: Tensor, rows: Sequence[int],
        streams: Sequence[Sequence[Tensor | None]], columns: slice, *, width: int,
        extra: tuple[np.ndarray, ...] = (), names: tuple[str, ...] = PARAM_SUMS,
    ) -> list[int]:  # fmt: skip
        """Run a kernel over what fits; return the positions of what does not."""
        numels = [0 if t is None else t.numel() for t in streams[0]]
        fits = [_fit_together([s[i] for s in streams]) for i in range(len(rows))]
        fast = [i for i, fit in enumerate(fits) if fit]
        if fast:
            table = np.zeros((len(fast), width), dtype=np.int64)
            for column, stream in enumerate(streams):
                tensors = (stream[i] for i in fast)
                table[:, column] = [0 if t is None else t.data_ptr() for t in tensors]
            numel = np.array([numels[i] for i in fast], dtype=np.int64)
            constants = [edge[fast] for edge in extra]
            parts = self._share(
                lambda a, b, part: kernel(table, numel, a, b, *constants, part),
                int(numel.sum()), (len(fast), columns.stop - columns.start),
            )  # fmt: skip
            maxima = tuple(i for i, name in enumerate(names[columns]) if name in MAXIMA)
            out.numpy()[[rows[i] for i in fast], columns] = _combine(parts, maxima)
        return [i for i, fit in enumerate(fits) if not fit]

    def _share(
        self, work: Callable[[int, int, np.ndarray], None], n: int, shape: tuple[int, ...],
        *, block: int = 1,
    ) -> list[np.ndarray]:  # fmt: skip
        """Cut a range among threads; the caller takes the first part itself."""
        n_threads = min(torch.get_num_threads(), 1 + n // PARALLEL_FROM)
        edges = [n * i // n_threads // block * block for i in range(n_threads)] + [n]
        parts = [np.zeros(shape) for _ in range(n_threads)]
        pool = self._threads() if n_threads > 1 else None
        jobs = [
            pool.submit(work, edges[i], edges[i + 1], parts[i]) for i in range(1, n_threads) if pool
        ]
        work(edges[0], edges[1], parts[0])
        for job in jobs:
            job.result()
        return parts

    def _threads(self) -> ThreadPoolExecutor:
        """Return the pool; a new one in a forked process, where the old one's threads are gone."""
        if self._pool is None or self._pool_pid != os.getpid():
            self._pool = ThreadPoolExecutor(torch.get_num_threads(), "gradscope-measure")
            self._pool_pid = os.getpid()
        return self._pool


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


def _fit_together(tensors: Sequence[Tensor | None]) -> bool:
    """Whether entry i of one belongs to entry i of the others, in memory order."""
    first, *others = (t for t in tensors if t is not None)
    strides = first.stride()
    return _is_plain(first) and all(
        t.dtype is torch.float32 and t.stride() == strides and t.is_cpu and type(t) in _PLAIN_TYPES
        for t in others
    )


def _combine(parts: list[np.ndarray], maxima: tuple[int, ...]) -> np.ndarray:
    """Add what the threads summed; some columns by maximum."""
    stacked = np.stack(parts)
    combined = stacked.sum(axis=0)
    combined[:, maxima] = stacked[:, :, maxima].max(axis=0)
    return combined


def _round_inward(below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round thresholds to the float32 that compare with float32 entries as the exact ones do."""
    with np.errstate(over="ignore"):
        low, high = below.astype(np.float32), above.astype(np.float32)
    low = np.where(low > below, np.nextafter(low, np.float32(-np.inf)), low)
    high = np.where(high < above, np.nextafter(high, np.float32(np.inf)), high)
    return low, high

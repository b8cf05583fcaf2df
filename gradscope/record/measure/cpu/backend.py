"""The backend for tensors in main memory: compiled kernels where they fit, else the reference."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscope.native.compiler import Kernel
from gradscope.native.jobs import JOB, MOST_PARTS, combine_parts, n_parts, run_job
from gradscope.native.sums.moments import round_inward
from gradscope.native.tensors import fit_together, is_plain
from gradscope.native.threads import Threads
from gradscope.record.measure.cpu.kernels import gradients, moments, outputs, updates
from gradscope.record.measure.cpu.log2_counts import log2_counts
from gradscope.record.measure.reference.backend import Picked, ReferenceBackend
from gradscope.record.measure.reference.sums import (
    GRADIENT,
    MAXIMA,
    MOMENT,
    OUTPUT_SUMS,
    PARAM_SUMS,
    UPDATE,
)

KERNELS = (gradients, updates, moments, outputs, log2_counts)
_NARROW = (torch.bfloat16, torch.float16)
_WORD = {name: i for i, name in enumerate(JOB.names or ())}
"""Where a job's fields stand among its words of 8 bytes."""


class CompiledBackend(ReferenceBackend):
    """Float32 tensors on the CPU in one pass, on as many threads as torch uses.

    The first use on a machine compiles for some seconds; later ones load what was compiled. Layer
    outputs in half precision are measured as float32. Other tensors of another dtype, or with gaps
    in memory, go through the reference.
    """

    def __init__(self) -> None:
        self._threads = Threads()
        self._output = _OutputJob()

    def probe(self) -> None:
        """Compile or load every kernel.

        Raises
        ------
        Exception
            Whatever keeps numba from compiling here.
        """
        for kernel in KERNELS:
            _ = kernel.address

    def add_output(self, tensor: Tensor, sums: Tensor) -> None:
        """See `Backend`."""
        if tensor.dtype is not torch.float32 and tensor.dtype in _NARROW:
            tensor = tensor.float()  # exact; a copy costs far less than the reference
        if not is_plain(tensor):
            super().add_output(tensor, sums)
            return
        n, job = tensor.numel(), self._output
        n_cut = n_parts(n)
        if n_cut == 1:  # as most are: added to the sums at once
            self._threads.run(outputs, job.set(tensor.data_ptr(), n, 1, sums.data_ptr()), 1)
            return
        parts = job.parts[:n_cut]
        parts.fill(0.0)
        address = job.set(tensor.data_ptr(), n, n_cut, parts.ctypes.data)
        self._threads.run(outputs, address, min(n_cut, torch.get_num_threads()))
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
        slow = self._run(gradients, out, rows, streams, GRADIENT, width=3)
        if slow:
            some = Picked(slow)
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
        slow = self._run(updates, out, rows, [before, after, grads], UPDATE, width=3)
        if slow:
            some = Picked(slow)
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
        thresholds = round_inward(below.numpy(), above.numpy())
        streams = [exp_avg_sqs, exp_avgs]
        slow = self._run(moments, out, rows, streams, MOMENT, width=2, thresholds=thresholds)
        if slow:
            some = Picked(slow)
            super().moments(
                out, some(rows), some(exp_avg_sqs), some(exp_avgs), below[slow], above[slow]
            )
        missing = [row for row, m in zip(rows, exp_avgs, strict=True) if m is None]
        out[missing, PARAM_SUMS.index("exp_avg_square_sum")] = torch.nan

    def log2_counts(
        self, out: Tensor, rows: Sequence[int], tensors: Sequence[Tensor], bins: tuple[int, int]
    ) -> None:
        """See `Backend`."""
        every = slice(0, out.shape[1])
        slow = self._run(log2_counts, out, rows, [tensors], every, width=1, bins=bins, names=())
        if slow:
            some = Picked(slow)
            super().log2_counts(out, some(rows), some(tensors), bins)

    def _run(
        self,
        kernel: Kernel,
        out: Tensor,
        rows: Sequence[int],
        streams: Sequence[Sequence[Tensor | None]],
        columns: slice,
        *,
        width: int,
        thresholds: NDArray[np.void] | None = None,
        bins: tuple[int, int] = (0, 0),
        names: tuple[str, ...] = PARAM_SUMS,
    ) -> list[int]:
        """Run a kernel over what fits; return the positions of what does not."""
        fits = [fit_together(first, others) for first, *others in zip(*streams, strict=True)]
        fast, slow = (
            [i for i, fit in enumerate(fits) if fit is wanted] for wanted in (True, False)
        )
        if not fast:
            return slow
        some = Picked(fast) if slow else list
        table = np.zeros((len(fast), width), dtype=np.int64)
        for column, stream in enumerate(streams):
            table[:, column] = [0 if t is None else t.data_ptr() for t in some(stream)]
        numel = np.array([t.numel() for t in some(streams[0]) if t is not None], dtype=np.int64)
        extra = np.array(bins) if thresholds is None else thresholds[fast]
        n_sums = columns.stop - columns.start
        parts = run_job(kernel, self._threads, table, numel, n_sums=n_sums, extra=extra.ctypes.data)
        maxima = tuple(i for i, name in enumerate(names[columns]) if name in MAXIMA)
        out.numpy()[some(rows), columns] = combine_parts(parts, maxima)
        return slow


class _OutputJob(threading.local):
    """The job of one output, kept between calls; each thread that trains has its own."""

    def __init__(self) -> None:
        self.parts = np.zeros((MOST_PARTS, len(OUTPUT_SUMS)))
        self._words = np.zeros(len(_WORD) + 2, dtype=np.int64)
        self._address = self._words.ctypes.data
        table = self._address + 8 * len(_WORD)
        fixed = {"n_tensors": 1, "table": table, "numel": table + 8, "n_sums": len(OUTPUT_SUMS)}
        for name, value in fixed.items():
            self._words[_WORD[name]] = value

    def set(self, tensor: int, n: int, n_parts: int, sums: int) -> int:
        """Fill in the addresses of tensor and sums; return the address of the job."""
        words = self._words
        words[_WORD["next"]], words[_WORD["n_entries"]], words[_WORD["out"]] = 0, n, sums
        words[_WORD["n_parts"]] = n_parts
        words[len(_WORD)], words[len(_WORD) + 1] = tensor, n
        return self._address

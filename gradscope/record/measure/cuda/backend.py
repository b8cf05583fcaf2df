"""The backend for tensors on a GPU: Triton kernels where they fit, the reference elsewhere.

Nothing here waits for the device. All sums of a step take six small launches, and can be captured
in a CUDA graph once the step has run outside of one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradscope.record.measure.cuda import output_kernel, tiles
from gradscope.record.measure.cuda.finish_kernel import finish_kernel
from gradscope.record.measure.cuda.gradient_kernel import gradient_kernel
from gradscope.record.measure.cuda.launch_plan import (
    DTYPES,
    Cut,
    LaunchGroup,
    LaunchTables,
    is_dense,
)
from gradscope.record.measure.cuda.log2_kernel import log2_kernel
from gradscope.record.measure.cuda.moment_kernel import moment_kernel
from gradscope.record.measure.cuda.update_kernel import update_kernel
from gradscope.record.measure.reference.backend import Picked, ReferenceBackend
from gradscope.record.measure.reference.sums import GRADIENT, MAXIMA, MOMENT, PARAM_SUMS, UPDATE

_OPTIONS = {"num_warps": tiles.N_WARPS, "enable_fp_fusion": True}
# What `CudaBackend.probe` must find of a single 1, for parameter, moments and thresholds alike.
_SUMS_OF_ONE = (1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0)
_COUNTS_OF_ONE = (1, 0, 0, 0, 0, 0)
_OUTPUT_OF_ONE = (1, 1, 1, 0, 0, 1)
_KINDS = {dtype: getattr(tl, str(dtype).removeprefix("torch.")) for dtype in DTYPES}


class CudaBackend(ReferenceBackend):
    """Float32, bfloat16 and float16 tensors of one GPU, all parameters in one launch.

    Tensors with gaps in memory, whose strides differ from their partners', of another dtype or on
    another device go through the reference.

    Parameters
    ----------
    device : torch.device
        Where results are kept. The CPU under ``TRITON_INTERPRET=1``.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = _with_index(device)
        self._tables = LaunchTables(self._device, tiles.CHUNK)
        self._work: dict[int, tuple[Tensor, Tensor]] = {}

    def probe(self) -> None:
        """Run every kernel once on one entry; waits for the result.

        Raises
        ------
        Exception
            Whatever keeps triton from compiling here: no C compiler, an old GPU, an old triton.
        """
        one = torch.ones(1, device=self._device)
        zeros = functools.partial(torch.zeros, dtype=torch.float64, device=self._device)
        out, counts, sums = zeros((1, len(PARAM_SUMS))), zeros((1, 6)), zeros(6)
        self.gradients(out, [0], [one], [one], [torch.empty_like(one)])
        self.updates(out, [0], [one], [one], [one])
        self.moments(out, [0], [one], [one], zeros(1), zeros(1) + 1)
        self.log2_counts(counts, [0], [one], (0, 1))
        self.add_output(one, sums)
        found = [*out[0].tolist(), *counts[0].tolist(), *sums.tolist()]
        if found != [*_SUMS_OF_ONE, *_COUNTS_OF_ONE, *_OUTPUT_OF_ONE]:
            raise RuntimeError(f"triton's kernels do not add up on {self._device}: {found}")

    def add_output(self, tensor: Tensor, sums: Tensor) -> None:
        """See `Backend`."""
        if tensor.layout is torch.strided and not is_dense(tensor):
            tensor = tensor.contiguous()
        if not self._tables.fits(tensor):
            super().add_output(tensor, sums)
            return
        n = tensor.numel()
        n_programs = -(-n // (output_kernel.TILES_EACH * tiles.TILE))
        partial, ticket = self._workspace()
        with self._on_device():
            output_kernel.output_kernel[(min(max(n_programs, 1), output_kernel.MAX_PROGRAMS),)](
                tensor,
                n,
                sums,
                partial,
                ticket,
                TILE=tiles.TILE,
                MAX_PROGRAMS=output_kernel.MAX_PROGRAMS,
                WIDTH=output_kernel.WIDTH,
                **_OPTIONS,
            )

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
        plan = self._tables.plan("gradients", rows, streams)
        for group in plan.groups:
            partial = self._partial(group.cut)
            self._launch(
                gradient_kernel,
                group,
                partial,
                GRAD=_kind(group, 0),
                PARAM=_kind(group, 1),
                COPY=_kind(group, -1),
                HAS_COPY=bool(copies),
            )
            self._finish(partial, group, out, GRADIENT)
        if plan.misfits:
            some = Picked(plan.misfits)
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
        plan = self._tables.plan("updates", rows, [before, after, grads])
        for group in plan.groups:
            partial = self._partial(group.cut)
            self._launch(
                update_kernel,
                group,
                partial,
                BEFORE=_kind(group, 0),
                AFTER=_kind(group, 1),
                GRAD=_kind(group, 2),
            )
            self._finish(partial, group, out, UPDATE)
        if plan.misfits:
            some = Picked(plan.misfits)
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
        plan = self._tables.plan("moments", rows, [exp_avg_sqs, exp_avgs])
        for group in plan.groups:
            partial = self._partial(group.cut)
            self._launch(
                moment_kernel,
                group,
                partial,
                group.items,
                below,
                above,
                V=_kind(group, 0),
                M=_kind(group, 1),
                HAS_M=group.dtypes[1] is not None,
            )
            self._finish(partial, group, out, MOMENT)
        if plan.misfits:
            some = Picked(plan.misfits)
            edges = [torch.stack(some(edge.unbind())) for edge in (below, above)]
            super().moments(out, some(rows), some(exp_avg_sqs), some(exp_avgs), *edges)

    def log2_counts(
        self, out: Tensor, rows: Sequence[int], tensors: Sequence[Tensor], bins: tuple[int, int]
    ) -> None:
        """See `Backend`."""
        n_bins = bins[1] - bins[0] + 1
        width = triton.next_power_of_2(n_bins + 5)  # four counts more, and one column to spare
        plan = self._tables.plan("log2_counts", rows, [tensors])
        for group in plan.groups:
            partial = self._partial(group.cut, width, torch.int32)
            self._launch(
                log2_kernel,
                group,
                partial,
                KIND=_kind(group, 0),
                LOW=bins[0],
                N_BINS=n_bins,
                WIDTH=width,
            )
            self._finish(partial, group, out, slice(0, n_bins + 4), names=())
        if plan.misfits:
            some = Picked(plan.misfits)
            super().log2_counts(out, some(rows), some(tensors), bins)

    def _launch(
        self, kernel: Any, group: LaunchGroup, partial: Tensor, *extra: Tensor, **constants: Any
    ) -> None:
        """Run a kernel over all chunks of a group."""
        constants = {"WIDTH": tiles.WIDTH, **constants}
        with self._on_device():
            kernel[(partial.shape[0],)](
                group.addresses,
                group.cut.sizes,
                group.cut.chunks,
                group.addresses.shape[1],
                partial.shape[0],
                partial,
                *extra,
                **constants,
                IS_ALIGNED=group.is_aligned,
                CHUNK=tiles.CHUNK,
                TILE=tiles.TILE,
                **_OPTIONS,
            )

    def _finish(
        self,
        partial: Tensor,
        group: LaunchGroup,
        out: Tensor,
        columns: slice,
        *,
        names: Sequence[str] = PARAM_SUMS,
    ) -> None:
        """Combine the chunks of each tensor into its row."""
        maxima = sum(1 << i for i, name in enumerate(names[columns]) if name in MAXIMA)
        width = partial.shape[1]
        with self._on_device():
            finish_kernel[(group.rows.numel(),)](
                partial,
                group.cut.first,
                group.rows,
                out,
                out.stride(0),
                COLUMN=columns.start,
                N=columns.stop - columns.start,
                MAXIMA=maxima,
                ROWS=tiles.FINISHED // width,
                WIDTH=width,
                **_OPTIONS,
            )

    def _partial(
        self, cut: Cut, width: int = tiles.WIDTH, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        return torch.empty((cut.chunks.shape[1], width), dtype=dtype, device=self._device)

    def _workspace(self) -> tuple[Tensor, Tensor]:
        """Return scratch and ticket of `output_kernel`: one pair a stream, or a call of a graph."""
        if self._device.type != "cuda":
            return self._new_workspace()
        if torch.cuda.is_current_stream_capturing():  # what is zero there is zero at replay only
            return self._new_workspace()
        stream = torch.cuda.current_stream(self._device).cuda_stream
        if stream not in self._work:
            self._work[stream] = self._new_workspace()
        return self._work[stream]

    def _new_workspace(self) -> tuple[Tensor, Tensor]:
        shape = (output_kernel.MAX_PROGRAMS, output_kernel.WIDTH)
        partial = torch.empty(shape, dtype=torch.float64, device=self._device)
        return partial, torch.zeros(1, dtype=torch.int32, device=self._device)

    def _on_device(self) -> contextlib.AbstractContextManager[Any]:
        """Make our device the current one, where triton launches."""
        if self._device.type != "cuda" or torch.cuda.current_device() == self._device.index:
            return contextlib.nullcontext()
        return torch.cuda.device(self._device)


def _kind(group: LaunchGroup, stream: int) -> Any:
    """Triton's name of a stream's dtype; any where it is missing."""
    return _KINDS[group.dtypes[stream] or torch.float32]


def _with_index(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device

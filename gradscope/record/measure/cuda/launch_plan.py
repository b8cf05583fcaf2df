"""Tables on the device for launches over many tensors: where each lies, and how it is cut.

A table is built when addresses change and kept while they come back, as those of parameters,
moments and (through the caching allocator) most gradients do. It travels from pinned memory without
anybody waiting; torch's allocator gives pinned memory back only after the copy.
"""

from __future__ import annotations

import operator
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Streams = Sequence[Sequence[Tensor | None]]
"""For each role (gradient, parameter, ...) the tensors of all items."""

DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})
KEPT = 64
"""Plans that are remembered; the oldest goes first."""
RESERVE = 131_072
"""Words of pinned memory for tables that are made while a CUDA graph is captured: 1 MiB."""
_PLAIN_TYPES = frozenset({Tensor, torch.nn.Parameter})
_DTYPE_OF = operator.attrgetter("dtype")


@dataclass(frozen=True)
class Cut:
    """How tensors of some sizes are cut into chunks."""

    sizes: Tensor
    """int64 (tensor,)"""
    chunks: Tensor
    """int32 (2, chunk): tensor, and number within it; an empty tensor has one chunk."""
    first: Tensor
    """int32 (tensor + 1,): first chunk of each tensor, then their number."""


@dataclass(frozen=True)
class LaunchGroup:
    """Tensors that one launch can take: same dtypes, same alignment."""

    addresses: Tensor
    """int64 (stream, tensor)"""
    rows: Tensor
    """int64 (tensor,): row of the result."""
    items: Tensor
    """int64 (tensor,): position in what the caller gave."""
    cut: Cut
    dtypes: tuple[torch.dtype | None, ...]
    """Of each stream; None where its tensors are missing."""
    is_aligned: bool


@dataclass(frozen=True)
class LaunchPlan:
    """What to launch, and which positions have to be measured another way."""

    groups: tuple[LaunchGroup, ...]
    misfits: tuple[int, ...]


class LaunchTables:
    """Makes plans for one device and remembers them.

    Parameters
    ----------
    device : torch.device
    chunk : int
        Entries of a chunk.
    """

    def __init__(self, device: torch.device, chunk: int) -> None:
        self._device = device
        self._chunk = chunk
        self._plans: OrderedDict[Any, LaunchPlan] = OrderedDict()
        self._cuts: OrderedDict[tuple[int, ...], Cut] = OrderedDict()
        self._is_cuda = device.type == "cuda"
        # Pinned memory cannot be allocated during a capture, and a captured copy reads its source
        # at every replay: so this is made before, and what is taken is never given back.
        self._reserve = torch.empty(
            RESERVE, dtype=torch.int64, device="cpu", pin_memory=self._is_cuda
        )
        self._n_taken = 0

    def plan(self, kind: str, rows: Sequence[int], streams: Streams) -> LaunchPlan:
        """Return the plan for these tensors; ``kind`` keeps unlike uses apart."""
        if not all(_are_plain(stream) for stream in streams):
            return self._make(rows, streams)
        try:
            key = (kind, tuple(rows), *(_identity(stream) for stream in streams))
        except RuntimeError:  # a sparse tensor has no address
            return self._make(rows, streams)
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
            return plan
        plan = self._make(rows, streams)
        if not self._is_capturing():  # such a table is filled by the graph, not before
            self._plans[key] = plan
            if len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        return plan

    def _make(self, rows: Sequence[int], streams: Streams) -> LaunchPlan:
        alike: dict[tuple[tuple[torch.dtype | None, ...], bool], list[int]] = defaultdict(list)
        misfits = []
        for i in range(len(rows)):
            tensors = [stream[i] for stream in streams]
            if self._fit_together(tensors):
                dtypes = tuple(None if t is None else t.dtype for t in tensors)
                aligned = all(t is None or t.data_ptr() % 16 == 0 for t in tensors)
                alike[dtypes, aligned].append(i)
            else:
                misfits.append(i)
        groups = [
            self._group(dtypes, aligned, items, rows, streams)
            for (dtypes, aligned), items in alike.items()
        ]
        return LaunchPlan(tuple(groups), tuple(misfits))

    def _fit_together(self, tensors: Sequence[Tensor | None]) -> bool:
        """Whether entry i of one belongs to entry i of the others, in memory order."""
        first, *others = (t for t in tensors if t is not None)
        return self.fits(first) and all(
            self._is_known(t) and t.stride() == first.stride() and t.shape == first.shape
            for t in others
        )

    def fits(self, tensor: Tensor) -> bool:
        """Whether a kernel can walk through the tensor: known dtype, here, without gaps."""
        return self._is_known(tensor) and is_dense(tensor)

    def _is_known(self, tensor: Tensor) -> bool:
        return (
            type(tensor) in _PLAIN_TYPES
            and tensor.layout is torch.strided
            and tensor.dtype in DTYPES
            and tensor.device == self._device
            and (tensor.data_ptr() != 0 or tensor.numel() == 0)  # not freed by a sharding wrapper
        )

    def _group(
        self,
        dtypes: tuple[torch.dtype | None, ...],
        is_aligned: bool,
        items: list[int],
        rows: Sequence[int],
        streams: Streams,
    ) -> LaunchGroup:
        addresses = [
            [0 if t is None else t.data_ptr() for t in (stream[i] for i in items)]
            for stream in streams
        ]
        words = np.array([*addresses, [rows[i] for i in items], items], dtype=np.int64)
        table = self._upload(words)
        cut = self._cut(tuple(int(numel(streams[0][i])) for i in items))
        return LaunchGroup(table[:-2], table[-2], table[-1], cut, dtypes, is_aligned)

    def _cut(self, sizes: tuple[int, ...]) -> Cut:
        cut = self._cuts.get(sizes)
        if cut is None:
            cut = self._make_cut(np.array(sizes, dtype=np.int64))
            if not self._is_capturing():
                self._cuts[sizes] = cut
                if len(self._cuts) > KEPT:
                    self._cuts.popitem(last=False)
        return cut

    def _make_cut(self, sizes: np.ndarray) -> Cut:
        n_chunks = np.maximum(-(-sizes // self._chunk), 1)
        first = np.concatenate([[0], n_chunks.cumsum()])
        tensor = np.repeat(np.arange(len(sizes)), n_chunks)
        chunks = np.stack([tensor, np.arange(first[-1]) - first[tensor]]).astype(np.int32)
        return Cut(self._upload(sizes), self._upload(chunks), self._upload(first.astype(np.int32)))

    def _upload(self, values: np.ndarray) -> Tensor:
        """Copy to the device without waiting."""
        if not self._is_cuda:
            return torch.from_numpy(values).to(self._device)
        values = np.ascontiguousarray(values)
        like = torch.from_numpy(values)
        host = self._take(values) if self._is_capturing() else like.pin_memory()
        return torch.empty_like(like, device=self._device).copy_(host, non_blocking=True)

    def _take(self, values: np.ndarray) -> Tensor:
        """Put values into the reserve."""
        n_words = -(-values.nbytes // 8)
        start, self._n_taken = self._n_taken, self._n_taken + n_words
        if self._n_taken > RESERVE:
            raise RuntimeError(
                f"no room for the tables of another captured CUDA graph: {RESERVE * 8} bytes are "
                "taken. Run the step a few times before it is captured, or make a new Recorder"
            )
        target = self._reserve[start : self._n_taken].view(torch.uint8)[: values.nbytes]
        target = target.view(torch.from_numpy(values).dtype).view(values.shape)
        target.copy_(torch.from_numpy(values))
        return target

    def _is_capturing(self) -> bool:
        return self._is_cuda and torch.cuda.is_current_stream_capturing()


def numel(tensor: Tensor | None) -> int:
    """Return the number of entries; 0 of what is missing."""
    return 0 if tensor is None else tensor.numel()


def is_dense(tensor: Tensor) -> bool:
    """Whether the entries fill a piece of memory, each once, in whatever order."""
    return tensor.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense(tensor)


def _are_plain(stream: Sequence[Tensor | None]) -> bool:
    return set(map(type, stream)) <= _PLAIN_TYPES | {type(None)}


def _identity(stream: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Address, size, strides and dtype of each: what a plan depends on."""
    if any(t is None for t in stream):
        missing = tuple(i for i, t in enumerate(stream) if t is None)
        return (missing, *_identity([t for t in stream if t is not None]))
    tensors: Sequence[Any] = stream
    return (
        tuple(map(Tensor.data_ptr, tensors)),
        tuple(map(Tensor.numel, tensors)),
        tuple(map(Tensor.stride, tensors)),
        tuple(map(_DTYPE_OF, tensors)),
    )

"""Which tensors compiled kernels can walk through, in memory order."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is float32 in main memory without gaps or overlaps."""
    return (
        tensor.dtype is torch.float32
        and tensor.is_cpu
        and type(tensor) in _PLAIN_TYPES
        and (tensor.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense(tensor))
    )


def fit_together(first: Tensor, others: Iterable[Tensor | None]) -> bool:
    """Whether all are plain and entry i of one belongs to entry i of the others."""
    if not is_plain(first):
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

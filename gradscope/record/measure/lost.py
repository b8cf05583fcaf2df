"""Sums over no finite entry at all, which say nothing and must not read as zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradscope.record.measure.reference.sums import PARAM_SUMS

PARAM_SQUARES = (PARAM_SUMS.index("param_square_sum"),)
UPDATE_SQUARES = (PARAM_SUMS.index("update_square_sum"), PARAM_SUMS.index("update_grad_dot"))


def blank_lost(
    out: Tensor, rows: Sequence[int], tensors: Sequence[Tensor], columns: tuple[int, ...]
) -> None:
    """Make sums missing where a tensor has no finite entry.

    A parameter or an update that is NaN or infinite throughout has a sum of squares of zero. Only
    such sums are looked into, and only on the CPU, where nothing waits; on an accelerator,
    gradients without finite entries tell of them (`finish_updates`).

    Parameters
    ----------
    out : Tensor, float64, (param, len(PARAM_SUMS))
    rows : sequence of int
    tensors : sequence of Tensor
        What was summed: item i belongs to row ``rows[i]``.
    columns : tuple of int
        Columns of ``out`` to blank; the first holds the sum of squares.
    """
    if out.device.type != "cpu" or not rows:
        return
    squares = out.numpy()[rows, columns[0]].tolist()  # torch takes rows by a list slowly
    for row, tensor, square in zip(rows, tensors, squares, strict=True):
        if square == 0 and tensor.numel() and not _has_finite(tensor):
            out[row, list(columns)] = torch.nan


def _has_finite(tensor: Tensor) -> bool:
    first = tensor[(0,) * tensor.ndim]
    return bool(torch.isfinite(first)) or bool(torch.isfinite(tensor).any())

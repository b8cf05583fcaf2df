"""The rows of ``/training``: one for every attempted step, numbers and device tensors alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradscope.record.hooks import cuda_graphs
from gradscope.record.rows.device_buffer import Pending, RowBuffer

MAX_TENSORS = 64
"""Different names that may be logged as tensors on an accelerator."""


class TrainingRows:
    """Scalars by step. A tensor on an accelerator is copied there, so that nothing waits.

    Names that begin with ``_`` are for the recorder itself and never written.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._capacity = capacity
        self._rows: list[dict[str, Any]] = []
        self._columns: dict[str, int] = {}
        self._device = device
        self._on_device: RowBuffer | None = None
        self._row: Tensor | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether the next row needs a `take` first."""
        return len(self._rows) >= self._capacity

    def open_row(self, step: int) -> None:
        """Begin the row of a step."""
        self._rows.append({"step": step})
        if self._on_device is not None:
            self._row = self._on_device.open_row(step)

    def set(self, name: str, value: Any) -> None:
        """Set one number of the present row: float, int, bool, NumPy scalar or one-element tensor.

        Raises
        ------
        TypeError, ValueError
            If the value is not one number, or too many names are logged as device tensors.
        """
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"`{name}` must be one number; got a tensor of {value.numel()}")
            value = value.detach()
            if value.device.type != "cpu":
                self._set_on_device(name, value)
                return
        elif isinstance(value, list):  # one number a parameter group
            if any(isinstance(v, Tensor) for v in value):
                for index, item in enumerate(value):
                    if isinstance(item, Tensor):
                        self._set_on_device(f"{name}[{index}]", item.detach())
                value = [np.nan if isinstance(v, Tensor) else v for v in value]
            self._rows[-1][name] = value
            return
        try:
            self._rows[-1][name] = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"`{name}` must be one number; got {type(value).__name__}") from None

    def _set_on_device(self, name: str, value: Tensor) -> None:
        if cuda_graphs.is_capturing():  # a replay would write into a row of the past
            return
        if self._on_device is None:
            self._on_device = RowBuffer(self._capacity, (MAX_TENSORS,), value.device)
            for row in self._rows:
                self._row = self._on_device.open_row(row["step"])
        if name not in self._columns:
            if len(self._columns) == MAX_TENSORS:
                raise ValueError(f"more than {MAX_TENSORS} names logged as tensors; log numbers")
            self._columns[name] = len(self._columns)
        assert self._row is not None
        self._row[self._columns[name]].copy_(value.reshape(()), non_blocking=True)

    def drop_last(self) -> None:
        """Forget the present row."""
        self._rows.pop()
        if self._on_device is not None:
            self._on_device.steps.pop()

    def take(self, n: int) -> PendingTraining:
        """Hand over the first ``n`` rows."""
        rows, self._rows = self._rows[:n], self._rows[n:]
        pending = self._on_device.take(n) if self._on_device is not None else None
        if self._on_device is not None and self._rows:
            self._row = self._on_device.row(len(self._rows) - 1)
        return PendingTraining(rows, pending, dict(self._columns))


class PendingTraining:
    """Rows of ``/training`` whose tensors may still be on their way."""

    def __init__(
        self, rows: list[dict[str, Any]], tensors: Pending | None, columns: dict[str, int]
    ) -> None:
        self._rows = rows
        self._tensors = tensors
        self._columns = columns

    @property
    def is_ready(self) -> bool:
        """Whether `arrays` would return without waiting."""
        return self._tensors is None or self._tensors.is_ready

    def arrays(self) -> dict[str, np.ndarray]:
        """Return name to values (row,) or (row, param_group), float64, NaN where missing."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        arrays = {name: self._stack(name) for name in names}
        if self._tensors is None:
            return arrays
        values = self._tensors.rows()
        for name, column in self._columns.items():
            self._merge(arrays, name, values[:, column])
        return arrays

    def _stack(self, name: str) -> np.ndarray:
        values = [row.get(name, np.nan) for row in self._rows]
        width = max((len(v) for v in values if isinstance(v, list)), default=0)
        if not width:
            return np.asarray(values, dtype=np.float64)
        stacked = np.full((len(values), width), np.nan)
        for row, value in zip(stacked, values, strict=True):
            if isinstance(value, list):
                row[: len(value)] = value
        return stacked

    def _merge(self, arrays: dict[str, np.ndarray], name: str, values: np.ndarray) -> None:
        if name.endswith("]"):
            name, index = name[:-1].split("[")
            target = arrays[name][:, int(index)]
        else:
            target = arrays.setdefault(name, np.full(len(self._rows), np.nan))
        np.copyto(target, values, where=~np.isnan(values))

"""The rows of ``/training``: one for every attempted step, numbers and device tensors alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradscope.record.rows.device_buffer import Pending, RowBuffer
from gradscope.record.rows.facts import FACTS, GROUP_FACTS, StepFacts

MAX_TENSORS = 64
"""Different numbers that are kept on an accelerator; for more, the host waits."""

_WRITTEN = ("loss_scale", "clip_coefficient", "is_skipped", "n_microbatches", "batch_size")

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Column:
    """One number of a row that is kept on the device."""

    name: str
    group: int | None = None
    is_fact: bool = False


@dataclass
class _Row:
    """The numbers of one step that are known on the host."""

    step: int
    values: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class ScalarRows:
    """Scalars by step. A tensor on an accelerator is copied there, so that nothing waits.

    Parameters
    ----------
    capacity : int
        Rows that are kept before they must be taken.
    device : torch.device
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._capacity = capacity
        self._rows: list[_Row] = []
        self._columns: dict[_Column, int] = {}
        self._device = device
        self._on_device: RowBuffer | None = None
        self._row: Tensor | None = None
        self.is_frozen = False
        """Whether device tensors are left out: while a CUDA graph is captured, nothing is done."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether the next row needs a `take` first."""
        return len(self._rows) >= self._capacity

    def open_row(self, step: int) -> None:
        """Begin the row of a step."""
        self._rows.append(_Row(step))
        if self._on_device is not None:
            self._row = self._on_device.open_row(step)

    def set(self, name: str, value: Any) -> None:
        """Set one number of the present row: float, int, bool, NumPy scalar or one-element tensor.

        Raises
        ------
        TypeError, ValueError
            If the value is not one number.
        """
        self._set(self._rows[-1].values, _Column(name), value)

    def set_fact(self, name: str, value: Any) -> None:
        """Set one of `facts.FACTS` for the present row."""
        self._set(self._rows[-1].facts, _Column(name, is_fact=True), value)

    def set_groups(self, name: str, values: list[Any], *, is_fact: bool = False) -> None:
        """Set one number for each parameter group of the present row."""
        row = self._rows[-1]
        numbers = list(values)
        for group, value in enumerate(values):
            if isinstance(value, Tensor):
                is_kept = self._set_on_device(_Column(name, group, is_fact), value.detach())
                numbers[group] = np.nan if is_kept else float(value)
        (row.facts if is_fact else row.values)[name] = numbers

    def get(self, name: str) -> Any:
        """Return what the present row holds on the host under a name; None without."""
        return self._rows[-1].values.get(name)

    def _set(self, target: dict[str, Any], column: _Column, value: Any) -> None:
        if isinstance(value, Tensor):
            if value.numel() != 1:
                n = value.numel()
                raise ValueError(f"`{column.name}` must be one number; got a tensor of {n}")
            value = value.detach()
            if value.device.type != "cpu" and self._set_on_device(column, value):
                return
        try:
            target[column.name] = float(value)
        except (TypeError, ValueError):
            message = f"`{column.name}` must be one number; got {type(value).__name__}"
            raise TypeError(message) from None

    def _set_on_device(self, column: _Column, value: Tensor) -> bool:
        """Copy a number there; return whether there was room."""
        if self.is_frozen:  # a replay would write into a row of the past
            return True
        if self._on_device is None:
            self._on_device = RowBuffer(self._capacity, (MAX_TENSORS,), value.device)
            for row in self._rows:
                self._row = self._on_device.open_row(row.step)
        if column not in self._columns:
            if len(self._columns) == MAX_TENSORS:
                return False
            self._columns[column] = len(self._columns)
        assert self._row is not None
        self._row[self._columns[column]].copy_(value.reshape(()), non_blocking=True)
        return True

    def drop_last(self) -> None:
        """Forget the present row."""
        self._rows.pop()
        if self._on_device is not None:
            self._on_device.steps.pop()

    def take(self, n: int) -> PendingScalars:
        """Hand over the first ``n`` rows."""
        rows, self._rows = self._rows[:n], self._rows[n:]
        pending = self._on_device.take(n) if self._on_device is not None else None
        if self._on_device is not None and self._rows:
            self._row = self._on_device.row(len(self._rows) - 1)
        return PendingScalars(rows, pending, dict(self._columns))


class PendingScalars:
    """Rows of ``/training`` whose tensors may still be on their way."""

    def __init__(
        self, rows: list[_Row], tensors: Pending | None, columns: dict[_Column, int]
    ) -> None:
        self._rows = rows
        self._tensors = tensors
        self._columns = columns

    @property
    def is_ready(self) -> bool:
        """Whether `read` would return without waiting."""
        return self._tensors is None or self._tensors.is_ready

    def read(self) -> tuple[Values, StepFacts]:
        """Return name to values (row,) or (row, param_group), and the facts of the same steps.

        Values are float64, NaN where missing.
        """
        step = np.array([row.step for row in self._rows], dtype=np.int64)
        values = _stacked([row.values for row in self._rows])
        facts = _stacked([row.facts for row in self._rows])
        if self._tensors is not None:
            arrived = self._tensors.rows()
            for column, index in self._columns.items():
                _merge(facts if column.is_fact else values, column, arrived[:, index])
        return values, _as_facts(step, values, facts)


def _stacked(rows: list[dict[str, Any]]) -> Values:
    """Turn rows of numbers, or of one number a group, into columns."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _stack([row.get(name, np.nan) for row in rows]) for name in names}


def _stack(values: list[Any]) -> np.ndarray:
    width = max((len(v) for v in values if isinstance(v, list)), default=0)
    if not width:
        return np.asarray(values, dtype=np.float64)
    stacked = np.full((len(values), width), np.nan)
    for row, value in zip(stacked, values, strict=True):
        if isinstance(value, list):
            row[: len(value)] = value
    return stacked


def _merge(arrays: Values, column: _Column, values: np.ndarray) -> None:
    if column.group is not None:
        target = arrays[column.name][:, column.group]
    else:
        target = arrays.setdefault(column.name, np.full(len(values), np.nan))
    np.copyto(target, values, where=~np.isnan(values))


def _as_facts(step: np.ndarray, values: Values, facts: Values) -> StepFacts:
    empty = np.full(len(step), np.nan)
    return StepFacts(
        step=step,
        **{name: facts.get(name, empty) for name in FACTS},
        **{name: facts.get(name, empty[:, None]) for name in GROUP_FACTS},
        **{name: values.get(name, empty) for name in _WRITTEN},
    )

"""Rows on the device until there are enough to bring over: fixed memory, no waiting.

Each quantity has a preallocated array of ``capacity`` rows. On an accelerator a full buffer is
copied to pinned memory asynchronously, and read by the host only when the copy is known to be done.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


class RowBuffer:
    """Rows of one float64 array, on the device, with the step of each.

    Parameters
    ----------
    capacity : int
        Rows that fit.
    shape : tuple of int
        Shape of one row.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], device: torch.device) -> None:
        self.steps: list[int] = []
        self._rows = torch.empty((capacity, *shape), dtype=torch.float64, device=device)

    @property
    def is_full(self) -> bool:
        """Whether the next row needs a `take` first."""
        return len(self.steps) == self._rows.shape[0]

    @property
    def nbytes(self) -> int:
        """Size of the buffer in bytes."""
        return self._rows.nbytes

    def open_row(self, step: int) -> Tensor:
        """Begin the row of a step: all missing (NaN), to be filled in place."""
        row = self._rows[len(self.steps)]
        row.fill_(torch.nan)
        self.steps.append(step)
        return row

    def row(self, index: int) -> Tensor:
        """Return a row that is open, to go on filling it."""
        return self._rows[index]

    def take(self, n: int | None = None) -> Pending:
        """Start to bring the first ``n`` rows over (all by default) and free their places."""
        n = len(self.steps) if n is None else n
        steps, self.steps = self.steps[:n], self.steps[n:]
        pending = Pending.start(np.asarray(steps, dtype=np.int64), self._rows[:n])
        if self.steps:
            kept = self._rows[n : n + len(self.steps)].clone()
            self._rows[: len(self.steps)] = kept
        return pending


@dataclass
class Pending:
    """Rows on their way to the host."""

    steps: np.ndarray
    _host: Tensor
    _copied: torch.cuda.Event | None

    @classmethod
    def start(cls, steps: np.ndarray, rows: Tensor) -> Pending:
        """Copy rows to the host; asynchronously from an accelerator."""
        if rows.device.type != "cuda":
            return cls(steps, rows.detach().to("cpu", copy=True), None)
        source = rows.clone()  # the ring goes on; on the same stream, so ordered
        host = torch.empty(rows.shape, dtype=rows.dtype, device="cpu", pin_memory=True)
        host.copy_(source, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return cls(steps, host, event)

    @property
    def is_ready(self) -> bool:
        """Whether `rows` would return without waiting."""
        return self._copied is None or self._copied.query()

    def rows(self) -> np.ndarray:
        """Return the rows (row, …), float64; waits for the copy."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.numpy()

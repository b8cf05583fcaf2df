"""All rows of a recording on their way: from the device buffers to the other ranks and the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gradscope.record.guard import signals_later
from gradscope.record.rows.batch import Batch
from gradscope.record.rows.device_buffer import Pending, RowBuffer
from gradscope.record.rows.kind import RawRows, RowKind
from gradscope.record.rows.scalars import PendingScalars, ScalarRows

CAPACITY = 64
"""Steps that are kept on the device before they are brought over."""

MAX_BATCHES = 8
"""Batches that may be under way to the host or between ranks before the training waits."""


def capacity_of(kind: RowKind) -> int:
    """Rows of a kind that are buffered."""
    return -(-CAPACITY // min(kind.every, CAPACITY))


class Exchange(Protocol):
    """Rows that are being exchanged with the other ranks."""

    @property
    def is_done(self) -> bool:
        """Whether `finish` would return without waiting."""

    def finish(self) -> Batch:
        """Return the rows of all ranks."""


@dataclass
class _Departure:
    """Rows that have left the buffers and are on their way to the host or between ranks."""

    scalars: PendingScalars
    stats: dict[str, Pending]
    exchange: Exchange | None = None

    @property
    def is_here(self) -> bool:
        return self.scalars.is_ready and all(p.is_ready for p in self.stats.values())

    @property
    def is_ready(self) -> bool:
        return self.exchange is not None and self.exchange.is_done

    def read(self) -> Batch:
        raw = {
            kind: RawRows(pending.steps, pending.rows().copy())
            for kind, pending in self.stats.items()
            if len(pending.steps)
        }
        return Batch(*self.scalars.read(), raw)


class RowStream:
    """Buffers rows for one table of parameters, and passes them on when it is time.

    Parameters
    ----------
    kinds : collection of RowKind
    scalars : ScalarRows
        The rows of ``/training``.
    exchange : callable of Batch -> Exchange
        Begins to make rows of all ranks of those of one.
    deliver : callable of Batch
        Takes the rows of all ranks, in order.
    """

    def __init__(
        self,
        kinds: Collection[RowKind],
        scalars: ScalarRows,
        *,
        exchange: Callable[[Batch], Exchange],
        deliver: Callable[[Batch], None],
        device: torch.device,
    ) -> None:
        self._scalars = scalars
        self._exchange = exchange
        self._deliver = deliver
        self._buffers = {
            kind.name: RowBuffer(capacity_of(kind), kind.shape, device) for kind in kinds
        }
        self._departures: list[_Departure] = []
        self._last_left = time.perf_counter()

    @property
    def nbytes(self) -> int:
        """Memory held on the device."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def open_row(self, kind: str, step: int) -> Tensor:
        """Return the row of a step, all missing where it is new."""
        buffer = self._buffers[kind]
        if buffer.steps and buffer.steps[-1] == step:
            return buffer.row(len(buffer.steps) - 1)
        return buffer.open_row(step)

    def send_due(self, last_step: int, is_due: Callable[[float], bool]) -> bool:
        """Send what is due before a new row is opened; return whether the time for it had come.

        Parameters
        ----------
        last_step : int
            The last finished step.
        is_due : callable of seconds -> bool
            Whether rows must leave, so many seconds after they last did.
        """
        due = is_due(time.perf_counter() - self._last_left)
        if due or self._scalars.is_full or any(b.is_full for b in self._buffers.values()):
            self.send(len(self._scalars), last_step)
            self._last_left = time.perf_counter()
        self.drain()
        return due

    def send(self, n_scalars: int, last_step: int, *, is_last: bool = False) -> None:
        """Begin to bring over the first rows of scalars and all others up to ``last_step``.

        The last batch goes to the other ranks even if it is empty, so that nobody waits for it.
        """
        if n_scalars == 0 and not is_last:
            return
        with signals_later():
            taken = {
                kind: buffer.take(sum(s <= last_step for s in buffer.steps))
                for kind, buffer in self._buffers.items()
            }
            self._departures.append(_Departure(self._scalars.take(n_scalars), taken))

    def drain(self, *, wait: bool = False) -> None:
        """Finish what has arrived and hand it to the writer; everything with ``wait``."""
        if self._departures:
            with signals_later():
                self._hand_over(wait=wait)

    def _hand_over(self, *, wait: bool) -> None:
        for departure in self._departures:
            if not (wait or departure.is_here):
                break
            if departure.exchange is None:
                departure.exchange = self._exchange(departure.read())
        wait = wait or len(self._departures) > MAX_BATCHES
        while self._departures and (wait or self._departures[0].is_ready):
            exchange = self._departures.pop(0).exchange
            assert exchange is not None
            self._deliver(exchange.finish())

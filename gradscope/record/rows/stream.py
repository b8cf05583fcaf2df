"""All rows of a recording on their way: from the device buffers to the writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradscope.record.cadence import Cadence
from gradscope.record.distributed.reduce import Exchange, Pool, Raw, Training
from gradscope.record.finalize.finalizer import Finisher, RawRows
from gradscope.record.finalize.flight_recorder import FlightRecorder
from gradscope.record.rows.device_buffer import Pending, RowBuffer
from gradscope.record.rows.scalars import PendingTraining, TrainingRows
from gradscope.store.write.writer import RecordingWriter

CAPACITY = 64
"""Steps that are kept on the device before they are brought over."""

MAX_BATCHES = 8
"""Batches that may be under way to the host or between ranks before the training waits."""

Shapes = Mapping[str, tuple[int, tuple[int, ...]]]
"""Kind of row to capacity and shape."""


@dataclass
class _Batch:
    training: PendingTraining
    stats: dict[str, Pending]
    exchange: Exchange | None = None

    @property
    def is_here(self) -> bool:
        return self.training.is_ready and all(p.is_ready for p in self.stats.values())

    @property
    def is_ready(self) -> bool:
        return self.exchange is not None and self.exchange.is_done

    def read(self) -> tuple[Training, Raw]:
        raw = {
            kind: RawRows(pending.steps, pending.rows().copy())
            for kind, pending in self.stats.items()
            if len(pending.steps)
        }
        return self.training.arrays(), raw


class RowStream:
    """Buffers rows for one table of parameters, and sends finished variables to the writer.

    Parameters
    ----------
    writer, finisher, training, flight
        Where rows go, what makes variables of them, the rows of ``/training``, and the flight
        recorder (None without).
    shapes : mapping
        Kinds of rows ("params", "layers", "histograms", "sketches", "noise") to the number that is
        buffered and the shape of each.
    cadence : callable
        Which steps are recorded; others are there for the flight recorder only.
    pool : Pool
        Makes rows of all ranks of those of one.
    """

    def __init__(
        self,
        writer: RecordingWriter,
        finisher: Finisher,
        training: TrainingRows,
        flight: FlightRecorder | None,
        *,
        shapes: Shapes,
        cadence: Cadence,
        device: torch.device,
        pool: Pool,
        first_nonfinite: tuple[int, str] | None = None,
    ) -> None:
        self._writer = writer
        self._finisher = finisher
        self._training = training
        self._flight = flight
        self._cadence = cadence
        self.pool = pool
        self._buffers = {
            kind: RowBuffer(capacity, shape, device) for kind, (capacity, shape) in shapes.items()
        }
        self._batches: list[_Batch] = []
        self.first_nonfinite = first_nonfinite

    @property
    def nbytes(self) -> int:
        """Memory held on the device."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    @property
    def is_full(self) -> bool:
        """Whether the next row needs a `send` first."""
        return any(buffer.is_full for buffer in self._buffers.values())

    def open_row(self, kind: str, step: int) -> Tensor:
        """Begin a row of a kind, all missing."""
        return self._buffers[kind].open_row(step)

    def send(self, n_training: int, last_step: int, *, is_last: bool = False) -> None:
        """Begin to bring over the first rows of training and all others up to ``last_step``.

        The last batch goes to the other ranks even if it is empty, so that nobody waits for it.
        """
        if n_training == 0 and not is_last:
            return
        taken = {
            kind: buffer.take(sum(s <= last_step for s in buffer.steps))
            for kind, buffer in self._buffers.items()
        }
        self._batches.append(_Batch(self._training.take(n_training), taken))

    def drain(self, *, wait: bool = False) -> None:
        """Finish what has arrived and hand it to the writer; everything with ``wait``."""
        for batch in self._batches:
            if not (wait or batch.is_here):
                break
            if batch.exchange is None:
                batch.exchange = self.pool.start(*batch.read())
        wait = wait or len(self._batches) > MAX_BATCHES
        while self._batches and (wait or self._batches[0].is_ready):
            exchange = self._batches.pop(0).exchange
            assert exchange is not None
            self._write(*exchange.finish())

    def _write(self, training: Training, raw: Raw) -> None:
        if "step" not in training:
            return
        self._finisher.prepare(training, raw)
        if self.first_nonfinite is None and "params" in raw:
            self.first_nonfinite = self._finisher.first_nonfinite(training, raw["params"])
        self._writer.append("training", self._finisher.training_rows(training))
        recorded = raw
        if self._flight is not None:
            self._flight.observe(self._finisher, training, raw)
            steps = [int(step) for step in training["step"] if self._cadence(int(step))]
            recorded = {kind: rows.at(steps) for kind, rows in raw.items()}
        for group, rows in self._finisher.stat_rows(training, recorded).items():
            self._writer.append(group, rows)

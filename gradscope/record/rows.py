"""All rows of a recording on their way: from the device buffers to the writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradscope.record.buffer import Pending, RowBuffer
from gradscope.record.cadence import Cadence
from gradscope.record.finisher import Finisher, RawRows
from gradscope.record.flight import FlightRecorder
from gradscope.record.training import PendingTraining, TrainingRows
from gradscope.store.writer import RecordingWriter

CAPACITY = 64
"""Steps that are kept on the device before they are brought over."""

Shapes = Mapping[str, tuple[int, tuple[int, ...]]]
"""Kind of row to capacity and shape."""


@dataclass
class _Batch:
    training: PendingTraining
    stats: dict[str, Pending]

    @property
    def is_ready(self) -> bool:
        return self.training.is_ready and all(p.is_ready for p in self.stats.values())


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
    """

    def __init__(
        self, writer: RecordingWriter, finisher: Finisher, training: TrainingRows,
        flight: FlightRecorder | None, *, shapes: Shapes, cadence: Cadence, device: torch.device,
        first_nonfinite: tuple[int, str] | None = None,
    ) -> None:  # fmt: skip
        self._writer = writer
        self._finisher = finisher
        self._training = training
        self._flight = flight
        self._cadence = cadence
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

    def send(self, n_training: int, last_step: int) -> None:
        """Begin to bring over the first rows of training and all others up to ``last_step``."""
        if n_training == 0:
            return
        taken = {
            kind: buffer.take(sum(s <= last_step for s in buffer.steps))
            for kind, buffer in self._buffers.items()
        }
        self._batches.append(_Batch(self._training.take(n_training), taken))

    def drain(self, *, wait: bool = False) -> None:
        """Finish what has arrived and hand it to the writer; everything with ``wait``."""
        while self._batches and (wait or self._batches[0].is_ready):
            self._write(self._batches.pop(0))

    def _write(self, batch: _Batch) -> None:
        training = batch.training.arrays()
        raw = {
            kind: RawRows(pending.steps, pending.rows().copy())
            for kind, pending in batch.stats.items()
            if len(pending.steps)
        }
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

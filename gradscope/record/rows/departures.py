"""When the rows that wait on the device leave for the writer."""

from __future__ import annotations

import time

from gradscope.record.distributed.ranks import Ranks
from gradscope.record.measurement import Measurement
from gradscope.record.rows.scalars import TrainingRows


class Departures:
    """Lets rows leave when a window of steps ends or a buffer is full; all ranks at once.

    Parameters
    ----------
    ranks : Ranks
        Say when a window ends.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._last = time.perf_counter()

    def check(self, measurement: Measurement | None, training: TrainingRows, step: int) -> None:
        """Send what is due before the step after ``step`` opens its row."""
        stream = measurement.stream if measurement else None
        is_due = self._ranks.is_due(step + 1, time.perf_counter() - self._last)
        if stream and (is_due or training.is_full or stream.is_full):
            stream.send(len(training), step)
            self._last = time.perf_counter()
        if stream:
            stream.drain()
        if is_due:
            self._ranks.begin_window(step + 1, stream.pool.capacity if stream else 1)

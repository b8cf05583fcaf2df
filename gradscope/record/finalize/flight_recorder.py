"""The flight recorder: full-rate rows around a loss spike or a non-finite value.

Every step is measured; rows arrive on the host in batches, so that nothing waits, and the last
``n`` are remembered. When something fires, those and the next ``n`` are written under ``/spikes``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from gradscope.record.finalize.finalizer import Finalizer
from gradscope.record.measure.reference.sums import GRADIENT_SUMS
from gradscope.record.rows.facts import StepFacts
from gradscope.record.rows.kind import RawRows
from gradscope.record.rows.scalars import Values
from gradscope.store.write.writer import RecordingWriter

LOSS_SPIKE, NONFINITE_LOSS, NONFINITE_GRADIENT = 0, 1, 2
HISTORY = 101
"""Losses that the median and the median absolute deviation are taken of."""
LEAST_HISTORY = 20
"""Losses that must be known before a spike can be called."""
THRESHOLD = 6.0

_NONFINITE = GRADIENT_SUMS.index("grad_n_nonfinite")
Row = tuple[Values, StepFacts, dict[str, RawRows]]


class SpikeDetector:
    """Calls a spike where the loss exceeds median + 6 MAD of up to 101 losses before.

    >>> detector = SpikeDetector()
    >>> [detector.judge(1.0 + 0.01 * (i % 3), 0) for i in range(30)][-1] is None
    True
    >>> detector.judge(9.0, 0) == LOSS_SPIKE
    True
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=HISTORY)
        self._was_finite = True

    def judge(self, loss: float, n_nonfinite: float) -> int | None:
        """Say what is wrong with a step, or None. A run that stays non-finite fires once.

        Parameters
        ----------
        loss : float
            NaN where none was logged counts as non-finite; pass 0 instead.
        n_nonfinite : float
            Gradient entries that are not finite.
        """
        reason = self._reason(loss, n_nonfinite)
        is_finite = reason in (None, LOSS_SPIKE)
        fires = reason is not None and (self._was_finite or is_finite)
        self._was_finite = is_finite
        if math.isfinite(loss):
            self._losses.append(loss)
        return reason if fires else None

    def _reason(self, loss: float, n_nonfinite: float) -> int | None:
        if not math.isfinite(loss):
            return NONFINITE_LOSS
        if n_nonfinite > 0:
            return NONFINITE_GRADIENT
        if len(self._losses) < LEAST_HISTORY:
            return None
        median = float(np.median(self._losses))
        deviation = float(np.median(np.abs(np.asarray(self._losses) - median)))
        return LOSS_SPIKE if loss > median + THRESHOLD * deviation else None


class FlightRecorder:
    """Remembers the last rows and writes them when something fires.

    Parameters
    ----------
    n : int
        Steps kept before and after an event.
    """

    def __init__(self, n: int, writer: RecordingWriter) -> None:
        self._n = n
        self._writer = writer
        self._detector = SpikeDetector()
        self._before: deque[Row] = deque(maxlen=n)
        self._n_to_come = 0

    def observe(
        self, finalizer: Finalizer, values: Values, facts: StepFacts, raw: Mapping[str, RawRows]
    ) -> None:
        """Take in a batch of full-rate rows, already prepared by the finalizer."""
        to_write: list[Row] = []
        for i, step in enumerate(facts.step):
            row = (
                {name: column[i : i + 1] for name, column in values.items()},
                facts.at(facts.step[i : i + 1]),
                {kind: rows.at([step]) for kind, rows in raw.items()},
            )
            reason = self._judge(*row)
            if reason is not None and self._n_to_come == 0:
                event = {"event": np.array([step]), "spike_reason": np.array([reason])}
                self._writer.append("spikes", event)
                to_write += self._before
                self._before.clear()
                self._n_to_come = self._n + 1
            if self._n_to_come:
                to_write.append(row)
                self._n_to_come -= 1
            else:
                self._before.append(row)
        for row in to_write:
            self._write(finalizer, *row)

    def _judge(self, values: Values, facts: StepFacts, raw: Mapping[str, RawRows]) -> int | None:
        n_nonfinite = 0.0
        if "params" in raw and not facts.skipped[0]:
            n_nonfinite = float(np.nansum(raw["params"].values[:, :, _NONFINITE]))
        loss = float(values["loss"][0]) if facts.has_loss[0] == 1 else 0.0
        return self._detector.judge(loss, n_nonfinite)

    def _write(
        self, finalizer: Finalizer, values: Values, facts: StepFacts, raw: dict[str, RawRows]
    ) -> None:
        self._writer.append("spikes/training", finalizer.training_rows(values, facts))
        for group, rows in finalizer.stat_rows(facts, raw).items():
            self._writer.append(f"spikes/{group}", rows)

"""The last stage: a batch of rows becomes variables and goes to the writer."""

from __future__ import annotations

from typing import Any

from gradscope.errors import warn
from gradscope.record.finalize.finalizer import Finalizer
from gradscope.record.finalize.flight_recorder import FlightRecorder
from gradscope.record.finalize.outside_changes import OutsideChanges
from gradscope.record.rows.batch import Batch
from gradscope.record.rows.facts import StepFacts
from gradscope.record.rows.kind import RawRows
from gradscope.store.write.writer import RecordingWriter


class Delivery:
    """Finalizes batches and appends them to a recording.

    Parameters
    ----------
    writer : RecordingWriter
    finalizer : Finalizer
    flight : FlightRecorder or None
        Sees every row; the others go on only where the cadence takes the step.
    before : Delivery, optional
        That of an earlier table of parameters, whose findings stand.

    Attributes
    ----------
    changes : OutsideChanges
    first_nonfinite : (int, str) or None
        Step and layer of the first non-finite gradient so far.
    """

    def __init__(
        self,
        writer: RecordingWriter,
        finalizer: Finalizer,
        flight: FlightRecorder | None,
        before: Delivery | None = None,
    ) -> None:
        self._writer = writer
        self._finalizer = finalizer
        self._flight = flight
        self.changes = OutsideChanges([param.name for param in finalizer.table.params])
        self.changes.found = before.changes.found if before else None
        found: tuple[int, str] | None = before.first_nonfinite if before else None
        self.first_nonfinite: tuple[int, str] | None = found

    def __call__(self, batch: Batch) -> None:
        """Write one batch."""
        values, facts, raw = batch.values, batch.facts, batch.raw
        if not len(facts.step):
            return
        self._finalizer.prepare(values, facts, raw)
        if "params" in raw:
            self._look_at(raw["params"], facts)
        self._writer.append("training", self._finalizer.training_rows(values, facts))
        if self._flight is not None:
            self._flight.observe(self._finalizer, values, facts, raw)
            recorded = facts.step[facts.is_recorded > 0].tolist()
            raw = {kind: rows.at(recorded) for kind, rows in raw.items()}
        for group, rows in self._finalizer.stat_rows(facts, raw).items():
            self._writer.append(group, rows)

    def describe(self, **attributes: Any) -> None:
        """Set root attributes."""
        self._writer.set_attrs(**attributes)

    def _look_at(self, params: RawRows, facts: StepFacts) -> None:
        """Note what the recording should say about itself."""
        if self.first_nonfinite is None:
            self.first_nonfinite = self._finalizer.first_nonfinite(facts, params)
        if self.changes.found is None:
            self.changes.observe(params.steps, params.values, facts.at(params.steps))
            if self.changes.found is not None:
                step, name = self.changes.found
                self.declare_change(step, name)
                warn(
                    f"parameters change between two steps of the optimizer (first {name!r}, before "
                    f"step {step}): gradscope records as update what the optimizer's own step "
                    "changes"
                )

    def declare_change(self, step: int, name: str) -> None:
        """Say in the recording that a parameter was changed outside the optimizer's own step."""
        self.changes.found = step, name
        self._writer.set_attrs(changed_outside_step=step)

"""The rows of some steps, together on the host."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.record.rows.facts import StepFacts
from gradscope.record.rows.kind import RawRows
from gradscope.record.rows.scalars import Values


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows that leave together: scalars of ``/training``, facts, and raw rows by kind."""

    values: Values
    facts: StepFacts
    raw: dict[str, RawRows]

"""The kinds of raw rows, each declared once: its shape and what becomes of it at every stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradscope.record.rows.facts import StepFacts

ADD, SUM, MAX = 0, 1, 2
"""How numbers combine: NaN if any is; over those that are not missing (NaN); the largest."""

Variables = dict[str, np.ndarray]
Settle = Callable[[np.ndarray, int, list[int]], None]


@dataclass(frozen=True)
class Reduction:
    """How the rows of one kind combine over ranks.

    Parameters
    ----------
    rule : int or array of int, one for each number of the last axis
        `SUM` or `MAX`.
    is_local : bool
        Every rank measures its own batch, so that all rows combine; otherwise only those of
        sharded parameters do, of which each rank holds a part.
    columns : slice
        Numbers of the last axis that combine; the others are rank 0's.
    settle : callable, optional
        Called with the combined rows, the number of ranks and the rows of sharded parameters, to
        finish them in place.
    """

    rule: int | np.ndarray = SUM
    is_local: bool = False
    columns: slice = field(default_factory=lambda: slice(None))
    settle: Settle | None = None


@dataclass(frozen=True)
class RowKind:
    """One kind of raw row.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Shape of one row; the first axis is that of parameters or layers.
    finalize : callable of raw rows and StepFacts -> variables by group
        Takes float64 of shape (row, …), and the facts of the same rows.
    reduce : Reduction
    axes : mapping of str to columns
        Axes of the recording that its variables need, with their coordinates.
    every : int
        Recorded rounds from one row to the next.
    """

    name: str
    shape: tuple[int, ...]
    finalize: Callable[[np.ndarray, StepFacts], dict[str, Variables]]
    reduce: Reduction = field(default_factory=Reduction)
    axes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    every: int = 1


@dataclass(frozen=True)
class RawRows:
    """Raw rows of one kind: the steps (row,) and the numbers (row, …), float64."""

    steps: np.ndarray
    values: np.ndarray

    def at(self, steps: Collection[int]) -> RawRows:
        """Keep the rows of some steps."""
        kept = np.isin(self.steps, list(steps))
        return RawRows(self.steps[kept], self.values[kept])

"""The tuned arm: learning rate and weight decay chosen on validation, with an equal budget a cell.

A pattern search on a grid of factors of two: all neighbours of the best trial are tried, and those
of the next best, until the best lies inside or the budget is spent. So the range grows for as long
as the best is at its edge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gradscope import schema
from gradscope.errors import UsageError
from gradscope.experiments.config import Config

Point = tuple[int, int]
"""Powers of the factor on learning rate and weight decay."""

WORST = -math.inf


@dataclass(frozen=True)
class Tuning:
    """How each cell is tuned.

    Parameters
    ----------
    trials : int
        Largest number of trials of a cell, the same for every cell.
    metric : str
        Metric of the last evaluation that decides; smaller is better where it ends in ``loss``.
    factor : float
        Between neighbouring trials.
    seed : int
        Of all trials; none of the seeds that the chosen cell is then run with.

    Raises
    ------
    UsageError
        If a value cannot be used.
    """

    trials: int = 27
    metric: str = "val_accuracy"
    factor: float = 2.0
    seed: int = 1_000_000

    def __post_init__(self) -> None:
        if self.trials < 1 or not self.factor > 1:
            raise UsageError(
                f"[tuning] needs trials >= 1 and factor > 1; got {self.trials}, {self.factor}"
            )
        if not self.metric.startswith(("val_", "train_")):
            raise UsageError(
                f"[tuning] metric must be a val_… or train_… one, never test; got {self.metric!r}"
            )

    def at(self, cell: Config, point: Point) -> Config:
        """Return the cell with learning rate and weight decay of a point."""
        return cell.replace(
            lr=cell.lr * self.factor ** point[0],
            weight_decay=cell.weight_decay * self.factor ** point[1],
        )

    def score(self, status: str, metrics: Mapping[str, float]) -> float:
        """Return what is to be as large as possible; a run that did not finish is the worst."""
        value = metrics.get(self.metric, math.nan)
        if status != "finished" or not math.isfinite(value):
            return WORST
        return value if schema.declaration(self.metric).scale == "share" else -value

    def next_points(self, scores: Mapping[Point, float], *, has_decay: bool) -> list[Point]:
        """Return the points to try next; none when the cell is tuned.

        Parameters
        ----------
        scores : mapping of Point to float
            Trials so far.
        has_decay : bool
            Whether weight decay is tuned too; 0 times any factor stays 0.
        """
        best = max(scores, key=lambda point: scores[point]) if scores else (0, 0)
        around = [
            (best[0] + i, best[1] + j)
            for i in (0, -1, 1)
            for j in ((0, -1, 1) if has_decay else (0,))
        ]
        fresh = [point for point in around if point not in scores]
        return fresh[: self.trials - len(scores)]

    def is_at_edge(self, scores: Mapping[Point, float], *, has_decay: bool) -> bool:
        """Whether the budget ended before all neighbours of the best were tried."""
        unlimited = Tuning(len(scores) + 9, self.metric, self.factor, self.seed)
        return bool(unlimited.next_points(scores, has_decay=has_decay))

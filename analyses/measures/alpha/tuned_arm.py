"""What may be wrong with a tuned arm: its best trial at the edge, its surface too steep.

Both are break conditions of the claims that rest on it: every fresh seed shares the chosen trial,
so seeds cannot average a bad choice out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradscope.experiments.sweep.tuning import Point, Tuning

ASSUMED_CURVATURE = 0.004
"""Accuracy that is lost one octave of learning rate off the best, as the allowances assume."""


def points(trials: pd.DataFrame, factor: float = 2.0) -> dict[Point, float]:
    """Return the score of each trial of one cell, by powers of the factor on lr and weight decay.

    Parameters
    ----------
    trials : DataFrame
        ``lr``, ``weight_decay``, ``accuracy`` (of validation), ``is_diverged``.
    factor : float, default 2
        Between neighbouring trials.
    """
    first = trials.iloc[0]
    scores = {}
    for trial in trials.itertuples():
        powers = [
            round(np.log(now / then) / np.log(factor)) if then > 0 else 0
            for now, then in (
                (trial.lr, first["lr"]),
                (trial.weight_decay, first["weight_decay"]),
            )
        ]
        scores[powers[0], powers[1]] = -np.inf if trial.is_diverged else float(trial.accuracy)
    return scores


def is_at_edge(trials: pd.DataFrame) -> bool:
    """Whether the budget of a cell ended before all neighbours of its best trial were tried."""
    return Tuning().is_at_edge(points(trials), has_decay=bool((trials["weight_decay"] > 0).all()))


def curvature(trials: pd.DataFrame) -> float:
    """Return what accuracy loses one octave of learning rate off the best trial.

    Half the second difference at the best trial, its weight decay held; nan where a neighbour was
    not tried or diverged.
    """
    scores = points(trials)
    best = max(scores, key=lambda point: scores[point])
    around = [scores.get((best[0] + step, best[1]), np.nan) for step in (-1, 1)]
    if not np.isfinite(around).all():
        return float("nan")
    return float(scores[best] - np.mean(around))


def tuning_breaks(trials: pd.DataFrame, by: list[str]) -> list[str]:
    """Return the break conditions of a tuned arm that its trials fired, with the cells.

    Parameters
    ----------
    trials : DataFrame
        All trials of the arm.
    by : list of str
        Columns that tell its cells apart.
    """
    if not len(trials):
        return ["the best trial of an arm lies at the edge of its grid: no trials were found"]
    cells = [(str(dict(zip(by, key, strict=True))), own) for key, own in trials.groupby(by)]
    fired = []
    if edges := [name for name, own in cells if is_at_edge(own)]:
        fired.append(f"the best trial of an arm lies at the edge of its grid: {'; '.join(edges)}")
    # The best trial is the luckiest one, which steepens a single cell: the median is of all.
    steepness = [value for _, own in cells if np.isfinite(value := curvature(own))]
    if not steepness or np.median(steepness) > ASSUMED_CURVATURE:
        found = f"{np.median(steepness):.4f}" if steepness else "unknown"
        fired.append(
            f"the tuning surface is steeper than the allowance assumes: {found} an octave off, "
            f"{ASSUMED_CURVATURE} assumed"
        )
    return fired

"""What may be wrong with a tuned arm: its best trial at the edge, its surface too steep.

Both are break conditions of the claims that rest on it: every fresh seed shares the chosen trial,
so seeds cannot average a bad choice out.
"""

from __future__ import annotations

from collections.abc import Mapping

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
        is_known = not trial.is_diverged and np.isfinite(trial.accuracy)
        scores[powers[0], powers[1]] = float(trial.accuracy) if is_known else -np.inf
    return scores


def is_at_edge(trials: pd.DataFrame) -> bool:
    """Whether the budget of a cell ended before all neighbours of its best trial were tried.

    Of trials that are equally good, any may have been chosen: none must be at the edge.
    """
    scores, has_decay = points(trials), bool((trials["weight_decay"] > 0).all())
    return any(
        Tuning().is_at_edge({**scores, best: np.inf}, has_decay=has_decay) for best in _best(scores)
    )


def _best(scores: Mapping[Point, float]) -> list[Point]:
    """Return every point with the highest score."""
    return [point for point, score in scores.items() if score == max(scores.values())]


def curvature(trials: pd.DataFrame) -> float:
    """Return what accuracy loses one octave of learning rate off the best trial.

    Half the second difference at the best trial, its weight decay held; the mean of those of trials
    that are equally good. Without those of which a neighbour was not tried or diverged; nan where
    none is left.
    """
    scores = points(trials)
    found = [
        scores[at] - np.mean([scores.get((at[0] + step, at[1]), np.nan) for step in (-1, 1)])
        for at in _best(scores)
        if np.isfinite(scores[at])
    ]
    known = [loss for loss in found if np.isfinite(loss)]
    return float(np.mean(known)) if known else float("nan")


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

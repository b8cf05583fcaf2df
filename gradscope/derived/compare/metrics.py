"""Settings and final metrics of groups of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.compare.groups import ENVIRONMENT, Side, along_run, pair_runs, short
from gradscope.stats.intervals.student_t import student_t_mean

METRICS = ("test_accuracy", "val_accuracy", "train_accuracy", "test_loss", "val_loss", "train_loss")
TRAINING_LOSS = "loss"
LAST_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A final metric of one side.

    Parameters
    ----------
    metric : str
        A variable of ``/evaluation``; ``loss`` is the training loss, the mean of its last 5 %.
    side : str
        Name of the side.
    n : int
        Runs that have the metric.
    n_runs : int
        Runs of the side.
    n_unfinished : int
        Runs that did not finish (diverged, interrupted, still running): theirs is the last value.
    mean, low, high : float
        Mean over runs, and Student's t interval; NaN where one run has it.
    values : tuple of float
        One a run.
    difference, difference_low, difference_high : float
        Mean of this side's runs minus their partners on the first side, with its t interval over
        pairs; NaN on the first side, and where there are fewer than two pairs.
    """

    metric: str
    side: str
    n: int
    n_runs: int
    n_unfinished: int
    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    difference: float = math.nan
    difference_low: float = math.nan
    difference_high: float = math.nan


def outcomes(
    tree: xr.DataTree, sides: Sequence[Side], *, confidence: float = 0.95
) -> tuple[Outcome, ...]:
    """Return each final metric of each side with its interval over runs.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_runs`.
    sides : sequence of Side
        Groups of its runs.
    confidence : float
        Of the intervals.
    """
    found = []
    for metric in _metrics(tree):
        last = _last_values(tree, metric)
        if np.isfinite(last).any():
            own = [_outcome(tree, metric, last, side, confidence) for side in sides]
            found += [
                own[0],
                *(
                    _against(one, last, sides[0], side, confidence)
                    for one, side in zip(own[1:], sides[1:], strict=True)
                ),
            ]
    return tuple(found)


def _metrics(tree: xr.DataTree) -> list[str]:
    """List what was evaluated, the usual ones first; the training loss where nothing was."""
    node = tree.children.get("evaluation")
    names = (
        [str(name) for name, v in node.data_vars.items() if v.dims == ("run", "step")]
        if (node is not None)
        else []
    )
    own = [name for name in names if name not in METRICS and name != "epoch"]
    known = [name for name in METRICS if name in names] + own
    has_loss = "training" in tree.children and TRAINING_LOSS in tree["training"].data_vars
    return known + ([TRAINING_LOSS] if has_loss else [])


def _last_values(tree: xr.DataTree, metric: str) -> np.ndarray:
    """Return one value a run: the last, or of the noisy training loss the mean of the last 5 %."""
    group = "training" if metric == TRAINING_LOSS else "evaluation"
    values = tree[group].dataset[metric].transpose("run", "step").values.astype(float)
    share = LAST_SHARE if metric == TRAINING_LOSS else 0.0
    return np.array([_end(row[np.isfinite(row)], share) for row in values])


def _end(known: np.ndarray, share: float) -> float:
    return float(known[-max(int(share * known.size), 1) :].mean()) if known.size else math.nan


def _outcome(
    tree: xr.DataTree, metric: str, last: np.ndarray, side: Side, confidence: float
) -> Outcome:
    values = last[list(side.runs)]
    known = values[np.isfinite(values)]
    low = high = math.nan
    if known.size > 1:
        interval = student_t_mean(known, confidence=confidence)
        low, high = interval.low, interval.high
    return Outcome(
        metric=metric,
        side=side.name,
        n=int(known.size),
        n_runs=len(side.runs),
        n_unfinished=_n_unfinished(tree, side),
        mean=float(known.mean()) if known.size else math.nan,
        low=low,
        high=high,
        values=tuple(values.tolist()),
    )


def _against(
    outcome: Outcome, last: np.ndarray, first: Side, side: Side, confidence: float
) -> Outcome:
    """Add what a side's metric is minus that of its partners on the first side."""
    pairs, _ = pair_runs(first, side)
    differences = np.array([last[other] - last[one] for one, other in pairs])
    known = differences[np.isfinite(differences)]
    if known.size < 2:
        return outcome
    interval = student_t_mean(known, confidence=confidence)
    return replace(
        outcome,
        difference=interval.estimate,
        difference_low=interval.low,
        difference_high=interval.high,
    )


def _n_unfinished(tree: xr.DataTree, side: Side) -> int:
    if "status" in tree.dataset.coords and tree.dataset["status"].dims == ("run",):
        states = tree.dataset["status"].values[list(side.runs)]
        return int((states != "finished").sum())
    return 0 if tree.attrs.get("status") == "finished" else len(side.runs)


def metric_unit(metric: str) -> str:
    """Return the unit of a metric that the schema declares; empty for shares and unknown ones."""
    units = schema.declaration(metric).units
    return units if units != "1" else ""


def is_share(metric: str) -> bool:
    """Tell whether a metric is a fraction from 0 to 1, printed in per cent."""
    return schema.declaration(metric).scale == "share"


def settings_by_side(tree: xr.DataTree, sides: Sequence[Side]) -> dict[str, tuple[str, ...]]:
    """Return every setting that differs, each with its values on each side.

    Seeds and what runs ran on are there too, but a setting that only repeats another (the model's
    name, once as an attribute and once in the configuration) is not.
    """
    found: dict[str, tuple[str, ...]] = {}
    known = along_run(tree)
    last = [name for name in known if name in ENVIRONMENT]
    for name in [*(name for name in known if name not in ENVIRONMENT), *last]:
        values = tuple(_several(known[name][list(side.runs)]) for side in sides)
        if values not in found.values():
            found[name] = values
    return found


def _several(values: np.ndarray) -> str:
    """Write the values of one side's runs: one, a few, or the ends of a range.

    >>> _several(np.array([0.1, 0.1])), _several(np.array([2, 0, 1])), _several(np.arange(9))
    ('0.1', '0, 1, 2', '0 … 8 (9 values)')
    """
    distinct = np.unique(values).tolist()
    words = [short(value) for value in distinct]
    return (
        ", ".join(words) if len(words) <= 4 else f"{words[0]} … {words[-1]} ({len(words)} values)"
    )

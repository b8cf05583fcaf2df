"""Settings and final metrics of conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.compare.conditions import (
    ENVIRONMENT,
    Condition,
    along_run,
    differences,
    pair_runs,
    short,
)

METRICS = ("test_accuracy", "val_accuracy", "train_accuracy", "test_loss", "val_loss", "train_loss")
TRAINING_LOSS = "loss"
LAST_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class FinalMetric:
    """A final metric of one condition.

    Parameters
    ----------
    metric : str
        A variable of ``/evaluation``; ``loss`` is the training loss, the mean of its last 5 %.
    condition : str
        Name of the condition.
    n : int
        Runs that have the metric.
    n_runs : int
        Runs of the condition.
    n_unfinished : int
        Runs that did not finish (diverged, interrupted, running); their last value is used.
    mean, low, high : float
        Mean over runs with Student's t interval; the interval is NaN for a single run, and for runs
        that all have one value, as those that only guess.
    values : tuple of float
        One a run.
    difference, difference_low, difference_high : float
        Mean of this condition's runs minus their partners in the first condition, with its t
        interval over pairs; NaN in the first condition, and where there are fewer than two pairs.
    """

    metric: str
    condition: str
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


def final_metrics(
    tree: xr.DataTree, conditions: Sequence[Condition], *, confidence: float = 0.95
) -> tuple[FinalMetric, ...]:
    """Return each final metric of each condition with its interval over runs.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_runs`.
    conditions : sequence of Condition
        Groups of its runs.
    confidence : float
        Of the intervals.
    """
    found = []
    for metric in _metrics(tree):
        last = _last_values(tree, metric)
        if np.isfinite(last).any():
            own = [
                _final_metric(tree, metric, last, condition, confidence) for condition in conditions
            ]
            found += [
                own[0],
                *(
                    _against(one, last, conditions[0], condition, confidence)
                    for one, condition in zip(own[1:], conditions[1:], strict=True)
                ),
            ]
    return tuple(found)


def _metrics(tree: xr.DataTree) -> list[str]:
    """List the evaluated metrics, common ones first; the training loss if there are none."""
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
    """Return one value per run: the last one, or the mean of the last 5 % of the training loss."""
    group = "training" if metric == TRAINING_LOSS else "evaluation"
    values = tree[group].dataset[metric].transpose("run", "step").values.astype(float)
    share = LAST_SHARE if metric == TRAINING_LOSS else 0.0
    return np.array([_end(row[np.isfinite(row)], share) for row in values])


def _end(known: np.ndarray, share: float) -> float:
    return float(known[-max(int(share * known.size), 1) :].mean()) if known.size else math.nan


def _final_metric(
    tree: xr.DataTree, metric: str, last: np.ndarray, condition: Condition, confidence: float
) -> FinalMetric:
    values = last[list(condition.runs)]
    known = values[np.isfinite(values)]
    low, high = _bounds(known, confidence)
    if is_share(metric):
        low, high = float(np.maximum(low, 0.0)), float(np.minimum(high, 1.0))
    return FinalMetric(
        metric=metric,
        condition=condition.name,
        n=int(known.size),
        n_runs=len(condition.runs),
        n_unfinished=_n_unfinished(tree, condition),
        mean=float(known.mean()) if known.size else math.nan,
        low=low,
        high=high,
        values=tuple(values.tolist()),
    )


def _against(
    own: FinalMetric, last: np.ndarray, first: Condition, condition: Condition, confidence: float
) -> FinalMetric:
    """Add the difference of a metric to that of the paired runs in the first condition."""
    pairs, _ = pair_runs(first, condition)
    differences = np.array([last[other] - last[one] for one, other in pairs])
    known = differences[np.isfinite(differences)]
    if known.size < 2:
        return own
    low, high = _bounds(known, confidence)
    return replace(own, difference=float(known.mean()), difference_low=low, difference_high=high)


def _bounds(known: np.ndarray, confidence: float) -> tuple[float, float]:
    from gradscope.stats.intervals.student_t import student_t_bounds  # loads SciPy

    return student_t_bounds(known, confidence=confidence)


def _n_unfinished(tree: xr.DataTree, condition: Condition) -> int:
    if "status" in tree.dataset.coords and tree.dataset["status"].dims == ("run",):
        states = tree.dataset["status"].values[list(condition.runs)]
        return int((states != "finished").sum())
    return 0 if tree.attrs.get("status") == "finished" else len(condition.runs)


def metric_unit(metric: str) -> str:
    """Return the unit of a metric that the schema declares; empty for shares and unknown ones."""
    units = schema.declaration(metric).units
    return units if units != "1" else ""


def is_share(metric: str) -> bool:
    """Tell whether a metric is a fraction from 0 to 1, printed in per cent."""
    return schema.declaration(metric).scale == "share"


def settings_by_condition(
    tree: xr.DataTree, conditions: Sequence[Condition]
) -> dict[str, tuple[str, ...]]:
    """Return every differing setting with its values in each condition.

    Seeds and what runs ran on are there too, but a setting that only repeats another (the model's
    name, once as an attribute and once in the configuration) is not.
    """
    found: dict[str, tuple[str, ...]] = {}
    known = along_run(tree) | differences(tree)
    last = [name for name in known if name in ENVIRONMENT]
    for name in [*(name for name in known if name not in ENVIRONMENT), *last]:
        values = tuple(_several(known[name][list(condition.runs)]) for condition in conditions)
        if values not in found.values():
            found[name] = values
    return found


def _several(values: np.ndarray) -> str:
    """Format the values of a condition's runs: one, a few, or a range.

    >>> _several(np.array([0.1, 0.1])), _several(np.array([2, 0, 1])), _several(np.arange(9))
    ('0.1', '0, 1, 2', '0 … 8 (9 values)')
    """
    distinct = np.unique(values).tolist()
    words = [short(value) for value in distinct]
    return (
        ", ".join(words) if len(words) <= 4 else f"{words[0]} … {words[-1]} ({len(words)} values)"
    )

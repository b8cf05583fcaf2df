"""What a run came to, in numbers that runs of any alpha can be compared by.

A diverged run is an outcome: its accuracy is that of guessing, 1 / classes. A loss level that a run
never reaches is censored: the number of steps taken stands in as a lower bound, and is marked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses.study.run_records import RunRecord
from gradscope.errors import UsageError

CIFAR100_CLASSES = {"fine": 100, "coarse": 20, "binary": 2}
SMOOTHING = 10
"""Steps over which the training loss is averaged before it is compared with a level."""
OPTIONS = ("alpha", "lr", "weight_decay", "graft", "graft_from", "model", "dataset", "labels")


def n_classes_of(config: Mapping[str, Any]) -> int:
    """Return how many classes a run told apart.

    Raises
    ------
    UsageError
        If the configuration is not that of a built-in experiment.

    Examples
    --------
    >>> n_classes_of({"dataset": "cifar100", "labels": "coarse"})
    20
    >>> n_classes_of({"dataset": "digits", "keep_classes": (0, 1, 7)})
    3
    """
    if "dataset" not in config:
        raise UsageError(
            "a run of this question must say its `dataset` in config_json, as runs of "
            f"`gradscope sweep` do; got {', '.join(map(str, config)) or 'nothing'}"
        )
    labels = config.get("labels", "fine")
    if labels == "random":
        return int(config["merge_into"])
    if config["dataset"] == "cifar100" and labels != "fine":
        return CIFAR100_CLASSES[labels]
    if config.get("keep_classes"):
        return len(config["keep_classes"])
    own = {"digits": 10, "cifar10": 10, "cifar100": CIFAR100_CLASSES["fine"]}
    return own.get(config["dataset"]) or int(config.get("n_classes", 10))


def outcome_row(run: RunRecord, split: str = "test") -> dict[str, Any]:
    """Return name, options and final accuracy of a run; a diverged one has that of guessing.

    It is missing of a run that finished without one.
    """
    chance = 1 / n_classes_of(run.config)
    return {
        "run": run.name,
        "spec": run.spec,
        "seed": run.seed,
        **{name: run.config.get(name) for name in OPTIONS},
        "chance": chance,
        "is_diverged": run.is_diverged,
        "accuracy": chance if run.is_diverged else run.metrics.get(f"{split}_accuracy", math.nan),
    }


def training_loss(tree: xr.DataTree) -> xr.DataArray:
    """Return the training loss, averaged over the last ten steps; fewer at the start."""
    training = tree.children["training"].to_dataset(inherit=False)
    loss = training["loss"].dropna("step").astype(float)
    return loss.rolling(step=SMOOTHING, min_periods=1).mean()


def steps_to(loss: xr.DataArray, level: float) -> tuple[int, bool]:
    """Return the first step at which a loss is at or below a level, and whether it ever was.

    Where it never was, the number is that of the last step: a lower bound.

    Examples
    --------
    >>> loss = xr.DataArray([2.0, 1.0, 0.5], coords={"step": [1, 2, 3]}, dims="step")
    >>> steps_to(loss, 1.0), steps_to(loss, 0.1)
    ((2, True), (3, False))
    """
    reached = np.flatnonzero(loss.values <= level)
    if not reached.size:
        return int(loss["step"][-1]), False
    return int(loss["step"][reached[0]]), True


def gap_at(train_loss: NDArray[np.float64], held_out: NDArray[np.float64], level: float) -> float:
    """Return held-out minus training loss where the training loss first falls to a level.

    Parameters
    ----------
    train_loss, held_out : ndarray, shape (n_evaluations,)
        Both in eval mode at the same steps, in nat.
    level : float
        Training loss to compare at.

    Returns
    -------
    float
        Between two evaluations the gap is interpolated linearly in the training loss; nan where
        the level is never reached, or reached before the first evaluation.

    Examples
    --------
    Training loss 1.0 lies halfway from 1.5 to 0.5, and so does the gap, from 0.1 to 0.3.

    >>> round(gap_at(np.array([2.0, 1.5, 0.5]), np.array([2.0, 1.6, 0.8]), 1.0), 6)
    0.2
    """
    below = np.flatnonzero(train_loss <= level)
    if not below.size or below[0] == 0:
        return float("nan")
    before, after = below[0] - 1, below[0]
    share = (train_loss[before] - level) / (train_loss[before] - train_loss[after])
    gap = held_out - train_loss
    return float(gap[before] + share * (gap[after] - gap[before]))

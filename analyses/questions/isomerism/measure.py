"""What is measured in the recordings of the isomerism question: tables, rows by run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analyses.measures.class_gradients import matched_rows
from analyses.measures.outcomes import n_classes_of, outcome_row
from analyses.study.run_records import RunRecord, Runs

CLASSES, FACTORS, TUNED = SPECS = (
    "isomerism-classes",
    "isomerism-factors",
    "isomerism-tuned",
)
Row = dict[str, Any]


def measure(runs: Runs) -> dict[str, pd.DataFrame]:
    """Measure every run of the question.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    dict of str to DataFrame
        ``classes`` and ``factors`` (run, how it was matched), ``tuned`` (run), ``trials`` (trial).
    """
    tables = {
        "classes": [row for run in runs.of(CLASSES) for row in _gradient_rows(run)],
        "factors": [row for run in runs.of(FACTORS) for row in _gradient_rows(run)],
        "tuned": [outcome_row(run) | variant(run.config) for run in runs.of(TUNED)],
        "trials": [outcome_row(run, "val") | variant(run.config) for run in runs.trials(TUNED)],
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def variant(config: Mapping[str, Any]) -> Row:
    """Return the number of classes, whether they were merged at random, and the data's name.

    Examples
    --------
    >>> variant({"dataset": "cifar100", "labels": "random", "merge_into": 20})["data"]
    '20 random classes'
    """
    n_classes, is_random = n_classes_of(config), config.get("labels") == "random"
    name = f"{n_classes} {'random ' if is_random else ''}classes"
    return {"n_classes": n_classes, "is_random": is_random, "data": name}


def _gradient_rows(run: RunRecord) -> list[Row]:
    config = run.config
    base = {
        "run": run.name,
        "seed": run.seed,
        "is_diverged": run.is_diverged,
        **variant(config),
        "head": "own" if config.get("n_outputs") is None else "constant",
        "samples": config.get("samples_per_class"),
        "label_noise": config.get("label_noise", 0.0),
        "imbalance": config.get("imbalance", 1.0),
        "augment": int(bool(config.get("augment"))),
    }
    if run.is_diverged:
        return [{**base, "matched": matched} for matched in ("step", "loss")]
    with run.open("training", "gradients", "updates", "activations") as tree:
        return [{**base, **row} for row in matched_rows(tree, base["n_classes"])]

"""What is measured for other tasks: one row a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analyses.measures.alpha.step_map import step_size
from analyses.questions.transfer.measure import arm_of
from analyses.study.run_records import RunRecord, Runs

SYMBOLS, SCENES = SPECS = ("tasks-symbols", "tasks-scenes")
TASKS = {SYMBOLS: "symbols", SCENES: "scenes"}
Row = dict[str, Any]


def measure(runs: Runs) -> dict[str, pd.DataFrame]:
    """Measure every run of the question.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    dict of str to DataFrame
        ``outcomes`` (run).
    """
    return {"outcomes": pd.DataFrame([_row(run) for spec in SPECS for run in runs.of(spec)])}


def _row(run: RunRecord) -> Row:
    with run.open("training", "updates") as tree:
        loss = np.asarray(tree["training/loss"].values, dtype=float)
        step = float("nan") if run.is_diverged else step_size(tree)
    first = float(loss[0])
    return {
        "run": run.name,
        "task": TASKS[run.spec],
        "arm": arm_of(run.config),
        "seed": run.seed,
        **{name: run.config[name] for name in ("zipf", "alpha", "lr")},
        "is_diverged": run.is_diverged,
        "first_loss": first,
        "test_loss": first if run.is_diverged else run.metrics["test_loss"],
        "score": 0.0 if run.is_diverged else run.metrics["test_accuracy"],
        "step": step,
    }

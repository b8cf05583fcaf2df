"""What is measured in the recordings of the balance question: tables, rows by run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from analyses.measures.alpha.step_map import step_size
from analyses.measures.early_share import early_share
from analyses.measures.outcomes import gap_at, n_classes_of, outcome_row, steps_to, training_loss
from analyses.study.run_records import RunRecord, Runs

MAP, GRAFTED, SHARES, TUNED, SPEED = (
    "balance-map",
    "balance-grafted",
    "balance-shares",
    "tuned-vgg13-cifar10",
    "balance-speed",
)
SPECS = (MAP, GRAFTED, SHARES, TUNED, SPEED)
PAPERS_MAP = "alpha-vgg13-cifar10"
"""The paper's own grid: its runs, where there are any, are cells of the map too."""
LEVELS = (0.5, 0.2, 0.1)
"""Training losses that runs are compared at, as shares of ln(classes); fixed before any run."""
Row = dict[str, Any]


def measure(runs: Runs) -> dict[str, pd.DataFrame]:
    """Measure every run of the question.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    dict of str to DataFrame
        ``map`` and ``grafted`` (run), ``shares`` (run), ``tuned`` (run), ``gaps`` (run, level),
        ``speed`` (run, level) and ``trials`` (trial).
    """
    tables = {
        "map": [_map_row(run) for run in runs.of(MAP) + runs.of(PAPERS_MAP)],
        "grafted": [outcome_row(run) for run in runs.of(GRAFTED)],
        "shares": [_share_row(run) for run in runs.of(SHARES)],
        "tuned": [outcome_row(run) for run in runs.of(TUNED)],
        "gaps": [row for run in runs.of(TUNED) for row in _gap_rows(run)],
        "speed": [row for run in runs.of(SPEED) for row in _speed_rows(run)],
        "trials": [outcome_row(run, "val") for run in runs.trials(TUNED)],
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def _map_row(run: RunRecord) -> Row:
    with run.open("updates") as tree:
        return {**outcome_row(run), "step": step_size(tree)}


def _share_row(run: RunRecord) -> Row:
    row = outcome_row(run) | {"activation": run.config.get("activation", "relu")}
    is_decoupled = bool(run.config.get("decoupled_weight_decay", False))
    row["decay"] = "decoupled" if is_decoupled else "coupled"
    if run.is_diverged:
        return row
    with run.open("training", "gradients", "second_moments", "updates") as tree:
        return row | dataclasses.asdict(early_share(tree, is_decoupled=is_decoupled))


def _gap_rows(run: RunRecord) -> list[Row]:
    """Generalisation gap at each level; missing where the level was never reached."""
    with run.open("evaluation") as tree:
        curves = tree.children["evaluation"].to_dataset(inherit=False)[["train_loss", "val_loss"]]
        train, held_out = (curves.dropna("step")[name].values for name in curves)
    scale = np.log(n_classes_of(run.config))
    base = {"run": run.name, "seed": run.seed, "alpha": run.config.get("alpha")}
    return [
        {**base, "level": level, "gap": gap_at(train, held_out, level * scale)} for level in LEVELS
    ]


def _speed_rows(run: RunRecord) -> list[Row]:
    """Steps to each level; a lower bound where it was never reached."""
    with run.open("training") as tree:
        loss = training_loss(tree).load()
    scale = np.log(n_classes_of(run.config))
    rows = []
    for level in LEVELS:
        steps, is_reached = steps_to(loss, level * scale)
        rows.append(
            {
                "run": run.name,
                "seed": run.seed,
                "alpha": run.config.get("alpha"),
                "level": level,
                "steps": steps,
                "is_reached": is_reached,
                "is_diverged": run.is_diverged,
            }
        )
    return rows

"""What is measured in the recordings of the CIFAR question: tables, rows by run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analyses.measures.alpha.step_map import step_size
from analyses.measures.depth_slopes import depth_slopes, phase_means
from analyses.measures.gradient_stability import coherence, roughness
from analyses.measures.outcomes import outcome_row
from analyses.study.run_records import RunRecord, Runs

ALPHA10, ALPHA100, MAP, TUNED, DEPTH, LABELS = SPECS = (
    "cifar10-alpha",
    "cifar100-alpha",
    "cifar10-map",
    "cifar10-tuned",
    "cifar10-depth",
    "cifar100-labels",
)
METRICS = ("train_loss", "train_accuracy", "val_accuracy", "test_loss")
Row = dict[str, Any]


def measure(runs: Runs) -> dict[str, pd.DataFrame]:
    """Measure every run of the question.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    dict of str to DataFrame
        ``outcomes`` (run), ``slopes`` (run, phase, quantity) and ``trials`` (trial).
    """
    found = [run for spec in SPECS for run in runs.of(spec)]
    tables = {
        "outcomes": [_outcome(run) for run in found],
        "slopes": [row for run in found for row in _slopes(run)],
        "trials": [outcome_row(run, "val") for spec in SPECS for run in runs.trials(spec)],
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def arm_of(run: RunRecord) -> str:
    """Return ``grafted``, ``tuned`` or ``fixed``; alpha = 0 is its own graft, hence fixed."""
    if run.spec == TUNED:
        return "tuned"
    is_grafted = run.config.get("graft", "none") != "none" and run.config["alpha"] != 0
    return "grafted" if is_grafted else "fixed"


def _outcome(run: RunRecord) -> Row:
    row = {"arm": arm_of(run), "amp": run.config.get("amp")}
    row |= outcome_row(run)
    row |= {name: run.metrics.get(name, float("nan")) for name in METRICS}
    if run.is_diverged:
        return row
    with run.open("gradients", "second_moments", "updates") as tree:
        return row | {
            "step": step_size(tree),
            "roughness": roughness(tree),
            "coherence": coherence(tree),
        }


def _slopes(run: RunRecord) -> list[Row]:
    """Mean depth slopes of the phases of training; none of a run that diverged."""
    if run.is_diverged:
        return []
    with run.open("training", "gradients", "updates", "activations") as tree:
        n_steps = int(tree["training"].sizes["step"])
        phases = phase_means(depth_slopes(tree), n_steps)
    config = run.config
    base = {
        "run": run.name,
        "spec": run.spec,
        "arm": arm_of(run),
        "seed": run.seed,
        **{name: config.get(name) for name in ("model", "dataset", "labels", "alpha", "lr")},
    }
    return [
        {**base, "phase": phase, "quantity": quantity, "slope": slope}
        for phase, slopes in phases.items()
        for quantity, slope in slopes.items()
    ]

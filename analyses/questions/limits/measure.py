"""What is measured for the limits of alpha: how each run went, and the line of each network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.measures.alpha.stability_line import (
    critical_lr,
    hessian_product,
    inverse_preconditioner,
    second_moments,
    sharpness,
)
from analyses.measures.outcomes import n_classes_of
from analyses.study.run_records import RunRecord, Runs
from gradscope.experiments.config import Config
from gradscope.experiments.training.environment import numerics
from gradscope.experiments.training.setup import build_experiment

(LIMITS,) = SPECS = ("alpha-limits",)
EARLY_STEPS, RISE = 50, 2.0
"""A run is unstable if its loss rises above ``RISE`` times its first value within so many steps."""
STUCK = 0.95
"""Last loss over ln(classes) from which on a run has not learned."""
LAST_STEPS = 10
N_BATCHES, N_EXAMPLES = 20, 512
"""Batches that the second moment is averaged over; examples of the loss whose Hessian is taken."""
Row = dict[str, Any]


def measure(runs: Runs) -> dict[str, pd.DataFrame]:
    """Measure every run of the question.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    dict of str to DataFrame
        ``runs`` (run) and ``lines`` (network, seed, alpha), which name one run of each.
    """
    found = runs.of(LIMITS)
    networks: dict[tuple[str, int], list[RunRecord]] = {}
    for run in found:
        networks.setdefault((net_of(run.config), run.seed), []).append(run)
    tables = {
        "runs": [_run_row(run) for run in found],
        "lines": [
            {"net": net, "seed": seed, **row}
            for (net, seed), own in networks.items()
            for row in _line_rows(own)
        ],
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def net_of(config: Mapping[str, Any]) -> str:
    """Return the name of a run's network."""
    return "batch norm" if config["batch_norm"] else "no batch norm"


def end_of(loss: np.ndarray, *, n_classes: int, is_diverged: bool) -> Row:
    """Tell from a run's training loss whether it was stable and how it ended.

    Examples
    --------
    >>> end_of(np.array([2.3, 5.0, 1.0]), n_classes=10, is_diverged=False)["is_unstable"]
    True
    """
    first, early, last = loss[0], loss[:EARLY_STEPS], loss[-LAST_STEPS:].mean()
    is_finite = not is_diverged and bool(np.isfinite(loss).all())
    # Losses of a diverging run are as large as float32 bears; their logarithm is what is kept.
    with np.errstate(divide="ignore", invalid="ignore"):
        peak = float(np.log10(np.nanmax(early) / first)) if np.isfinite(early).any() else np.nan
    is_stuck = last >= STUCK * np.log(n_classes)
    end = "not finite" if not is_finite else "stuck" if is_stuck else "trains"
    return {
        "first_loss": float(first),
        "last_loss": float(last) if is_finite else float("nan"),
        "peak_decades": peak if np.isfinite(peak) else float("nan"),
        "is_unstable": not is_finite or bool(peak > np.log10(RISE)),
        "end": end,
    }


def _run_row(run: RunRecord) -> Row:
    with run.open("training") as tree:
        loss = np.asarray(tree["training/loss"].values, dtype=float)
    config = run.config
    return {
        "run": run.name,
        "net": net_of(config),
        "seed": run.seed,
        "alpha": config["alpha"],
        "lr": config["lr"],
        **end_of(loss, n_classes=n_classes_of(config), is_diverged=run.is_diverged),
    }


def _line_rows(runs: list[RunRecord]) -> list[Row]:
    """Compute the line of one network at the alphas of its runs, from its first weights."""
    config = Config.from_mapping(runs[0].config).replace(device="cpu")
    with numerics(seed=config.seed, deterministic=config.deterministic):
        experiment = build_experiment(config)
    model = experiment.model.double()
    batches = [(x.double(), y) for x, y in itertools.islice(experiment.stream, N_BATCHES)]
    moments = second_moments(model, batches)
    inputs, targets = (torch.cat(part)[:N_EXAMPLES] for part in zip(*batches, strict=True))
    product = hessian_product(model, (inputs, targets))
    usual = float(np.exp(np.log(moments[moments > 0]).mean()))
    plain, rows = sharpness(product, np.ones_like(moments)), []
    names = {run.config["alpha"]: run.name for run in runs}
    for alpha, name in sorted(names.items()):
        own = sharpness(product, inverse_preconditioner(moments, alpha, config.eps))
        rows.append(
            {
                "run": name,
                "alpha": alpha,
                "sharpness": own,
                "usual_second_moment": usual,
                "line": float(np.log10(critical_lr(own, config.betas[0]))),
                "scalar_line": float(np.log10(critical_lr(plain * usual**-alpha, config.betas[0]))),
            }
        )
    return rows

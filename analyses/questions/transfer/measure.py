"""What is measured for architecture transfer: outcomes and depth slopes, rows by run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from analyses.measures.alpha.step_map import step_size
from analyses.measures.depth_slopes import layer_profiles, within_stage_slopes
from analyses.measures.outcomes import outcome_row, training_loss
from analyses.study.run_records import RunRecord, Runs

(TRANSFER,) = SPECS = ("architecture-transfer",)
SITES = {
    "vgg13": r"^features\.",
    "resnet14": r"\.conv2$",
    "efficientnet": r"\.project\.",
    "vit": r"\.contract$",
}
"""Layers whose output gradients are compared over depth, by model."""
START, LATE = "start", "second half"
"""The first step, and the recorded steps of the second half of the run."""
Row = dict[str, Any]


def measure(runs: Runs) -> dict[str, pd.DataFrame]:
    """Measure every run of the question.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    dict of str to DataFrame
        ``outcomes`` (run) and ``slopes`` (run, phase).
    """
    found = runs.of(TRANSFER)
    tables = {
        "outcomes": [_outcome(run) for run in found],
        "slopes": [row for run in found for row in _slopes(run)],
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def net_of(config: Mapping[str, Any]) -> str:
    """Return the name of a run's architecture.

    Examples
    --------
    >>> net_of({"model": "resnet14", "skip": False})
    'resnet14 without skips'
    """
    return f"{config['model']}{'' if config.get('skip', True) else ' without skips'}"


def arm_of(config: Mapping[str, Any]) -> str:
    """Return ``grafted`` or ``fixed``; alpha = 0 is its own graft, hence fixed."""
    return "grafted" if config["graft"] != "none" and config["alpha"] != 0 else "fixed"


def _labels(run: RunRecord) -> Row:
    labels = {"net": net_of(run.config), "arm": arm_of(run.config)}
    return {"run": run.name, **labels}


def _outcome(run: RunRecord) -> Row:
    row = {**_labels(run), **outcome_row(run)}
    if run.is_diverged:
        return row
    with run.open("training", "updates") as tree:
        loss = training_loss(tree).values
        return row | {"ln_loss": float(np.log(max(loss[-1], 1e-12))), "step": step_size(tree)}


def _slopes(run: RunRecord) -> list[Row]:
    """Slopes at the start and in the second half; none of a run that diverged."""
    if run.is_diverged:
        return []
    with run.open("training", "gradients", "updates", "activations") as tree:
        n_steps = int(tree["training"].sizes["step"])
        slope = site_slopes(layer_profiles(tree), SITES[run.config["model"]])["slope"]
    config = run.config
    base = {**_labels(run), "seed": run.seed, "alpha": config["alpha"]}
    parts = {START: slope.sel(step=1), LATE: slope[slope["step"] > n_steps / 2]}
    return [{**base, "phase": phase, "slope": float(part.mean())} for phase, part in parts.items()]


def site_slopes(profiles: xr.Dataset, pattern: str) -> xr.Dataset:
    """Return the slope of ln output gradient over the layers whose names match, in nat a site.

    Sites of one resolution share an intercept. In a network of tokens, where every block is a
    stage of its own, all sites do.
    """
    names = profiles["layer"].values
    is_site = [re.search(pattern, str(name)) is not None for name in names]
    sites = profiles.isel(layer=np.flatnonzero(is_site & profiles["is_inner"].values))
    stage = sites["stage"].values
    if len(set(stage.tolist())) == len(stage):
        stage = np.zeros_like(stage)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(sites["output_grad_rms"].values)
    slope = within_stage_slopes(logs, np.arange(len(stage), dtype=np.float64), stage)
    return xr.Dataset({"slope": ("step", slope)}, coords={"step": profiles["step"].values})

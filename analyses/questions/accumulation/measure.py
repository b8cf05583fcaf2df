"""What is measured in the recordings of the accumulation question: tables, rows by run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analyses.measures import self_checks
from analyses.measures.depth_slopes import QUANTITIES, depth_slopes, layer_profiles, phase_means
from analyses.measures.equilibrium import AGE_NEEDED, DRIFT_ALLOWED, equilibrium
from analyses.measures.gradient_stability import coherence, roughness
from analyses.measures.known_slopes import control_name, known_slope
from analyses.study.run_records import RunRecord, Runs

INIT, PLAIN, INSTRUMENT, EQUILIBRIUM, GRAFTING = SPECS = (
    "accumulation-init",
    "accumulation-plain",
    "accumulation-instrument",
    "accumulation-equilibrium",
    "accumulation-grafting",
)
ARMS = {
    ("none", "zero"): "zero",
    ("global", "zero"): "full",
    ("profile", "alpha"): "layer",
    ("tensor", "zero"): "direction",
}
"""Names of the arms of the 2x2, by ``graft`` and ``graft_from``."""
Row = dict[str, Any]


def measure(runs: Runs) -> dict[str, pd.DataFrame]:
    """Measure every run of the question.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    dict of str to DataFrame
        ``slopes`` (run, phase, quantity), ``profiles`` (run, layer) of the networks at their first
        step, ``equilibrium`` (run), ``equilibrium_layers`` (run, layer), ``instrument`` (check) and
        ``grafting`` (run).
    """
    slopes, profiles = _start(runs)
    equilibria, layers = _equilibria(runs)
    grafting, persistence = _grafting(runs)
    tables = {
        "slopes": slopes + persistence,
        "profiles": profiles,
        "instrument": _instrument(runs),
        "equilibrium": equilibria,
        "equilibrium_layers": layers,
        "grafting": grafting,
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def _start(runs: Runs) -> tuple[list[Row], list[Row]]:
    """Slopes and profiles at the first step, of the networks and of the controls."""
    slopes, profiles = [], []
    for run in runs.of(INIT) + runs.of(PLAIN):
        with run.open("gradients", "updates", "activations") as tree:
            phases = {"start": phase_means(depth_slopes(tree), 1)["start"]}
            slopes += _slope_rows(run, phases)
            profiles += _profile_rows(run, layer_profiles(tree).isel(step=0))
    return slopes, profiles


def _net(config: Mapping[str, Any]) -> str:
    return control_name(config) if config.get("model") == "plain" else str(config.get("model", ""))


def _slope_rows(run: RunRecord, phases: Mapping[str, Mapping[str, float]]) -> list[Row]:
    config = run.config
    known = known_slope(config) if config.get("model") == "plain" else float("nan")
    base = {"run": run.name, "spec": run.spec, "net": _net(config), "seed": run.seed}
    return [
        {
            **base,
            "phase": phase,
            "quantity": name,
            "slope": slope,
            "known": known if name == "output_grad_rms" else float("nan"),
        }
        for phase, means in phases.items()
        for name, slope in means.items()
    ]


def _profile_rows(run: RunRecord, profile: Any) -> list[Row]:
    table = profile.drop_vars("step").to_dataframe().reset_index(drop=True)
    table[list(QUANTITIES)] = np.log(table[list(QUANTITIES)])
    labels = {"spec": run.spec, "net": _net(run.config), "seed": run.seed}
    return [
        {"run": run.name, **labels, **{str(key): value for key, value in row.items()}}
        for row in table.to_dict("records")
    ]


def _instrument(runs: Runs) -> list[Row]:
    """Every check with its value and what it may reach."""
    rows: list[Row] = [
        {
            "run": "",  # computed, not trained
            "check": "exact",
            "case": f"alpha {alpha:g}",
            "seed": 0,
            "value": error,
            "tolerance": self_checks.EXACT_TOLERANCE,
        }
        for alpha, error in self_checks.exact_errors().items()
    ]
    for run in runs.of(INSTRUMENT):
        if run.is_diverged:
            continue
        with run.open() as tree:
            rows.append(
                {
                    "run": run.name,
                    "check": "law",
                    "case": f"alpha {run.config['alpha']:g}",
                    "seed": run.seed,
                    "value": self_checks.law_excess(tree),
                    "tolerance": self_checks.LAW_TOLERANCE,
                }
            )
    for run in runs.of(INIT):
        with run.open("gradients") as tree:
            rows.append(
                {
                    "run": run.name,
                    "check": "orthogonality",
                    "case": _net(run.config),
                    "seed": run.seed,
                    "value": self_checks.largest_cosine(tree),
                    "tolerance": self_checks.COSINE_TOLERANCE,
                }
            )
    return rows


def _equilibria(runs: Runs) -> tuple[list[Row], list[Row]]:
    rows, layers = [], []
    for run in runs.of(EQUILIBRIUM):
        config = run.config
        is_decoupled = bool(config.get("decoupled_weight_decay", False))
        base = {
            "run": run.name,
            "decay": "decoupled" if is_decoupled else "coupled",
            "alpha": config.get("alpha"),
            "seed": run.seed,
        }
        if run.is_diverged:
            rows.append({**base, "status": run.status})
            continue
        with run.open("training", "gradients", "second_moments", "updates") as tree:
            found = equilibrium(tree, is_decoupled=is_decoupled)
        base["alpha"] = found.alpha
        names = ("slope", "predicted", "deviation", "age", "drift", "spread")
        limits = {"age_needed": AGE_NEEDED, "drift_allowed": DRIFT_ALLOWED}
        measured = {name: getattr(found, name) for name in names}
        rows.append({**base, "status": run.status, **limits, **measured})
        table = found.layers.to_dataframe().reset_index()
        layers += [
            {**base, **{str(k): v for k, v in row.items()}} for row in table.to_dict("records")
        ]
    return rows, layers


def _grafting(runs: Runs) -> tuple[list[Row], list[Row]]:
    """Outcome and stability of every arm; slopes over training of the nets without a graft."""
    rows, slopes = [], []
    for run in runs.of(GRAFTING):
        config = run.config
        arm = ARMS[config["graft"], config["graft_from"]]
        row = {
            "run": run.name,
            "net": _net(config),
            "arm": arm,
            "alpha": config["alpha"],
            "seed": run.seed,
            "status": run.status,
            "val_accuracy": run.metrics.get("val_accuracy"),
            "val_loss": run.metrics.get("val_loss"),
        }
        if not run.is_diverged:
            with run.open(
                "training", "gradients", "second_moments", "updates", "activations"
            ) as tree:
                loss = np.asarray(tree["training/loss"].values, dtype=np.float64)
                phases = phase_means(depth_slopes(tree), len(loss))
                row |= {
                    "train_loss": float(loss[-max(1, len(loss) // 10) :].mean()),
                    "roughness": roughness(tree),
                    "coherence": coherence(tree),
                    "late_slope": phases["last 10 %"]["output_grad_rms"],
                }
                if arm == "zero":
                    slopes += _slope_rows(run, phases)
        rows.append(row)
    return rows, slopes

"""Text of the report: facts, configuration, health, and differences between runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.health.check import check_health
from gradscope.derived.health.rule import Finding
from gradscope.derived.summary import summarise
from gradscope.store.read.run_attributes import describe_runs

_FACTS = (
    "run_name",
    "tags",
    "notes",
    "status",
    "stop_reason",
    "model_name",
    "dataset_name",
    "optimizer_name",
    "seed",
    "device",
    "created_at",
    "command",
    "first_nonfinite_step",
    "first_nonfinite_layer",
    "record_seconds",
)
_HYPERPARAMETERS = ("lr", "alpha", "beta1", "beta2", "eps", "weight_decay")
_NO_DIFFERENCE = ("status",)

Rows = list[tuple[str, str]]


def describe_run(tree: xr.DataTree, name: str) -> dict[str, Any]:
    """Return facts, configuration, last values and findings of a run, as text."""
    summary = summarise(tree)
    attributes = summary["attributes"]
    return {
        "name": name,
        "title": run_title(attributes),
        "status": str(attributes.get("status", "unknown")),
        "is_partial": attributes.get("is_complete") != 1,
        "n_steps": last_step(summary),
        "facts": facts(summary),
        "configuration": [
            (key, json.dumps(value, ensure_ascii=False))
            for key, value in summary["configuration"].items()
        ],
        "hyperparameters": last_values(summary, _HYPERPARAMETERS),
        "recorded": [recorded(*item) for item in summary["groups"].items() if item[1]["n_rows"]],
        "metrics": metrics(summary),
        "findings": [describe_finding(finding) for finding in check_health(tree)],
    }


def run_title(attributes: dict[str, Any]) -> str:
    """Say in a few words what was trained."""
    words = [
        attributes.get(key) for key in ("run_name", "model_name", "dataset_name", "optimizer_name")
    ]
    return " · ".join(str(word) for word in words if word)


def last_step(summary: dict[str, Any]) -> int:
    """Return the last step of any group; 0 before the first."""
    return max((group["last_step"] or 0 for group in summary["groups"].values()), default=0)


def facts(summary: dict[str, Any]) -> Rows:
    """List what is known of a run, sizes included."""
    known = summary["attributes"]
    rows = [
        (key.replace("_", " "), text(known[key]))
        for key in _FACTS
        if known.get(key, -1) not in (-1, "", None)
    ]
    rows.append(("last step", f"{last_step(summary):,}"))
    if summary["n_parameters"]:
        rows.append(("parameters", f"{summary['n_parameters']:,}"))
        rows.append(("layers with parameters", f"{len(summary['layers']):,}"))
    return rows


def recorded(name: str, group: dict[str, Any]) -> tuple[str, str]:
    """Say how much of a group there is."""
    where = f"steps {group['first_step']:,} to {group['last_step']:,}"
    return name, f"{group['n_rows']:,} rows, {where}, {len(group['variables'])} variables"


def last_values(summary: dict[str, Any], names: Sequence[str]) -> Rows:
    """List the newest values of some scalars."""
    last = summary["last"]
    return [
        (name, f"{text(last[name]['value'])} (step {last[name]['step']:,})")
        for name in names
        if name in last and known(last[name]["value"])
    ]


def metrics(summary: dict[str, Any]) -> dict[str, str]:
    """Return the last value of every loss and evaluated metric, with its step."""
    names = {"loss", *schema.GROUPS["evaluation"].variables}
    names |= set(summary["groups"].get("evaluation", {}).get("variables", ()))
    return {
        name: f"{text(last['value'])} (step {last['step']:,})"
        for name, last in summary["last"].items()
        if name in names and known(last["value"])
    }


def describe_finding(finding: Finding) -> dict[str, Any]:
    """Return a finding as text; long lists of layers are cut, and say so."""
    layers = ", ".join(finding.layers[:6])
    if len(finding.layers) > 6:
        layers += f" and {len(finding.layers) - 6} more"
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "message": finding.message,
        "advice": finding.advice,
        "layers": layers,
        "first_step": finding.first_step,
        "last_step": finding.last_step if finding.last_step is not None else finding.first_step,
    }


def compare(trees: Sequence[xr.DataTree], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lay out what differs between runs, and how each ended: names of columns and rows of text.

    Runs are rows. What all runs share is left out.
    """
    files = [Path(str(run["path"])) for run in runs]
    _, differing = describe_runs(
        files, [{str(key): value for key, value in tree.attrs.items()} for tree in trees]
    )
    settings = {
        key: column.values
        for key, column in differing.items()
        if column.ndim == 1 and key not in _NO_DIFFERENCE
    }
    names = list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    return {
        "settings": list(settings),
        "setting_rows": [
            [text(column[i]) for column in settings.values()] for i in range(len(runs))
        ],
        "metrics": names,
        "metric_rows": [[run["metrics"].get(name, "–") for name in names] for run in runs],
    }


def known(value: Any) -> bool:
    """Whether there is anything to print."""
    return value is not None and not (
        isinstance(value, list) and not any(v is not None for v in value)
    )


def text(value: Any) -> str:
    """Write a value for people: six digits, missing as a dash."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list):
        return ", ".join(text(each) for each in value)
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

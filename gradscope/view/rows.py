"""One row a run in the table of runs: status, newest numbers, settings, health."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from gradscope.derived.compare.conditions import ACCIDENTS, ENVIRONMENT, STORY
from gradscope.derived.health.check import check_health
from gradscope.derived.health.rule import SEVERITIES
from gradscope.store.read.recording import open_recording
from gradscope.store.read.run_attributes import describe_settings
from gradscope.view.catalog import Found

LIVE_WINDOW = 300
"""Rows of a running training that its health is judged by."""

MAX_TEXT = 200


def read_row(found: Found) -> dict[str, Any]:
    """Read what the table says of a run; a file that cannot be read gives its reason."""
    row = {"key": found.key, "name": found.name, "modified": found.modified, "is_blank": False}
    if found.is_blank:
        blank = {"status": "live", "step": 0, "settings": {}, "scalars": []}
        return row | blank | {"is_blank": True}
    try:
        with open_recording(found.path, groups=("training", "evaluation")) as tree:
            return row | _describe(tree, found)
    except Exception as error:  # whatever lies in the folder, the table must stand
        return row | {"status": "unreadable", "error": _clip(error), "settings": {}, "scalars": []}


def _describe(tree: xr.DataTree, found: Found) -> dict[str, Any]:
    attrs = {str(key): value for key, value in tree.attrs.items()}
    scalars = {
        str(name): variable
        for group in tree.children.values()
        for name, variable in group.dataset.data_vars.items()
        if variable.dims[:1] == ("step",) and variable.dims[1:] in ((), ("param_group",))
    }
    steps = [
        group.dataset["step"].values[-1]
        for group in tree.children.values()
        if group.dataset["step"].size
    ]
    accuracy = next(
        (n for n in ("val_accuracy", "test_accuracy", "train_accuracy") if n in scalars), ""
    )
    loss = next((n for n in ("loss", "val_loss", "train_loss") if n in scalars), "")
    return {
        "status": status_of(attrs, found),
        "step": int(max(steps, default=0)),
        "loss": _newest(scalars.get(loss)),
        "accuracy": _newest(scalars.get(accuracy)),
        "duration": _newest(scalars.get("wall_time")),
        "created": str(attrs.get("created_at", "")),
        "settings": settings(found, attrs),
        "scalars": sorted(scalars),
    }


def status_of(attrs: Mapping[str, Any], found: Found) -> str:
    """Return the recorded status; ``live`` while a writer runs, ``killed`` where it is gone."""
    status = str(attrs.get("status", "unknown"))
    if status == "running":
        return "live" if found.is_alive else "killed"
    return status


def settings(found: Found, attrs: dict[str, Any]) -> dict[str, Any]:
    """Return configuration and hyper-parameters, without what says nothing about the training."""
    known = {name: attrs[name] for name in STORY if name in attrs}
    known |= describe_settings(found.path, attrs)
    left_out = {*ACCIDENTS, *ENVIRONMENT, "sample_dims"}
    return {
        _clip(name): _plain(value)
        for name, value in known.items()
        if name not in left_out and not name.endswith("_json")
    }


def read_health(found: Found) -> dict[str, Any]:
    """Count findings by severity, and say the worst in words."""
    try:
        with open_recording(found.path) as tree:
            findings = check_health(tree, window=LIVE_WINDOW if found.is_open else None)
    except Exception as error:
        return {"worst": "unknown", "text": _clip(error)}
    counts = {name: sum(f.severity == name for f in findings) for name in SEVERITIES}
    worst = findings[0].severity if findings else "fine"
    texts = [f"{finding.rule}: {finding.message}" for finding in findings[:3]]
    return counts | {"worst": worst, "text": _clip("\n".join(texts), 600)}


def _newest(variable: xr.DataArray | None) -> float | None:
    """Return the last value that is not missing."""
    if variable is None or not variable.size:
        return None
    for rows in (slice(-64, None), slice(None)):
        values = np.asarray(variable[rows].values, dtype=float)
        values = values if values.ndim == 1 else values[:, 0]
        known = values[~np.isnan(values)]
        if known.size:
            return float(known[-1]) if math.isfinite(known[-1]) else None
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float) else _clip(value)


def _clip(value: object, length: int = MAX_TEXT) -> str:
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"

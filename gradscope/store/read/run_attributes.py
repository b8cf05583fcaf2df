"""Names of runs, and the attributes in which they differ."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.store.format.contents import one_error, open_file
from gradscope.store.format.h5objects import hard_links, open_member
from gradscope.store.format.segments import finished_path
from gradscope.store.read.lazy import files_of

_NOT_COMPARED = {
    *("created_at", "config_json", "custom_json", "command", "is_complete", "resume_step"),
    *("failure", "logged_names", "record_bytes", "record_seconds", "schema_version"),
}
_HYPERPARAMETERS = ("alpha", "lr", "beta1", "beta2", "eps", "weight_decay")


def name_runs(files: list[Path]) -> list[str]:
    """Return short distinct names: file stems, or shortened paths if stems repeat.

    Bytes of a name that are no text are written as numbers.
    """
    return [as_text(name) for name in _short_names(files)]


def as_text(name: str) -> str:
    """Write the bytes of a file's name that are no text as numbers."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _short_names(files: list[Path]) -> list[str]:
    finished = [finished_path(path) for path in files]
    stems = [path.stem for path in finished]
    if len(set(stems)) == len(stems):
        return stems
    paths = [path.absolute().with_suffix("") for path in finished]
    if len(set(paths)) < len(paths):
        return [f"{stem}-{i}" for i, stem in enumerate(stems)]
    root = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(root).as_posix() for path in paths]


def describe_runs(
    files: list[Path], attrs: list[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, xr.Variable]]:
    """Return common attributes, and differing ones as variables along ``run``."""
    found = [describe_settings(path, own) for path, own in zip(files, attrs, strict=True)]
    names = dict.fromkeys(name for values in found for name in values)
    common, differing = {}, {}
    for name in names:
        values = [run.get(name) for run in found]
        if all(value == values[0] for value in values):
            common[name] = values[0]
        elif name not in schema.INDEXES and name not in schema.PARAM_COORDINATES:
            differing[name] = xr.Variable("run", _as_column(values))
    return common, differing


def describe_settings(path: Path, attrs: dict[str, Any]) -> dict[str, Any]:
    """Describe a run by its first training row, configuration and attributes."""
    plain = {
        name: value
        for name, value in attrs.items()
        if name not in _NOT_COMPARED and not isinstance(value, np.ndarray)
    }
    try:
        config = json.loads(attrs.get("config_json", "{}"))
    except (TypeError, ValueError, RecursionError):
        config = {}
    flat = _flatten(config) if isinstance(config, dict) else {}
    known = flat | plain
    return _first_row(path, [name for name in _HYPERPARAMETERS if name not in known]) | known


def _first_row(path: Path, names: list[str]) -> dict[str, float]:
    """Hyper-parameters of the first parameter group at the first step."""
    values: dict[str, float] = {}
    for piece in files_of(finished_path(path)) if names else ():
        with one_error(piece), open_file(piece) as file:
            values = _first_numbers(file, names)
        if values:
            break
    return {name: value for name, value in values.items() if not np.isnan(value)}


def _first_numbers(file: h5py.File, names: list[str]) -> dict[str, float]:
    is_there = "training" in hard_links(file)
    training = open_member(file, "training", h5py.Group) if is_there else None
    values = {}
    if training is not None:
        there = set(hard_links(training))
        for name in (name for name in names if name in there):
            dataset = open_member(training, name, h5py.Dataset)
            if dataset is not None and dataset.ndim == 2 and dataset.size:
                values[name] = float(dataset[0, 0])
    return values


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float):
            flat[f"{prefix}{key}"] = value
    return flat


def _as_column(values: list[Any]) -> np.ndarray:
    """Return a column of numbers with NaN for missing, or of strings with empty for missing."""
    if all(value is None or isinstance(value, int | float) for value in values):
        if None not in values:
            return np.array(values)
        return np.array([np.nan if value is None else value for value in values], dtype=float)
    return np.array(["" if value is None else str(value) for value in values])

"""Export of a recording as TensorBoard scalars and histograms."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

Point = tuple[str, int, float, Any]


def to_tensorboard(tree: xr.DataTree, target: Path) -> None:
    """Write one event per recorded number, tagged like ``gradients/grad_norm/features.0.weight``.

    Histograms are over log2 of the magnitude, because a linear axis would show a single bar.
    """
    event = importlib.import_module("tensorboard.compat.proto.event_pb2")
    summary = importlib.import_module("tensorboard.compat.proto.summary_pb2")
    files = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    writer = files.EventFileWriter(str(target))
    try:
        for tag, step, time, content in _points(tree):
            if isinstance(content, dict):
                content = {"histo": summary.HistogramProto(**content)}
            else:
                content = {"simple_value": content}
            value = summary.Summary(value=[summary.Summary.Value(tag=tag, **content)])
            writer.add_event(event.Event(step=step, wall_time=time, summary=value))
    finally:
        writer.close()


def _points(tree: xr.DataTree) -> Iterator[Point]:
    """Yield tag, step, seconds since 1970, and a number or the fields of a histogram."""
    times = _times(tree)
    for node in tree.subtree:
        for name, values in node.to_dataset(inherit=False).data_vars.items():
            tag = f"{node.path.strip('/')}/{name}"
            if values.dims[:1] != ("step",):
                continue
            if values.ndim <= 2:
                yield from _scalars(tag, values, times)
            elif values.dims[2] in ("grad_bin", "moment_bin"):
                yield from _histograms(tag, values, times)


def _scalars(
    tag: str, values: xr.DataArray, times: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Point]:
    steps, table = values["step"].values, values.values.reshape(len(values), -1)
    labels = [""] if values.ndim == 1 else [f"/{x}" for x in values[values.dims[1]].values]
    clock = times(steps)
    for column, label in enumerate(labels):
        for row in np.flatnonzero(~np.isnan(table[:, column])):
            yield f"{tag}{label}", int(steps[row]), float(clock[row]), float(table[row, column])


def _histograms(
    tag: str, values: xr.DataArray, times: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Point]:
    steps, octaves = values["step"].values, values[values.dims[2]].values.astype(float)
    clock = times(steps)
    for column, label in enumerate(values[values.dims[1]].values):
        table = values[:, column].values
        for row in np.flatnonzero(np.nansum(table, axis=1) > 0):
            fields = _histogram(octaves, np.nan_to_num(table[row]))
            yield f"{tag}/{label}", int(steps[row]), float(clock[row]), fields


def _histogram(octaves: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """Fields of TensorBoard's histogram, from the first non-empty log2 bin to the last."""
    there = np.flatnonzero(counts)
    kept = slice(there[0], there[-1] + 1)
    left, counts = octaves[kept], counts[kept]
    middle = left + 0.5
    return {
        "min": left[0],
        "max": left[-1] + 1,
        "num": counts.sum(),
        "sum": (counts * middle).sum(),
        "sum_squares": (counts * middle**2).sum(),
        "bucket_limit": [left[0], *(left + 1)],  # the first bucket is empty and ends there
        "bucket": [0.0, *counts],
    }


def _times(tree: xr.DataTree) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that converts steps to seconds since 1970."""
    try:
        start = datetime.fromisoformat(str(tree.attrs.get("created_at"))).timestamp()
    except ValueError:
        start = 0.0
    training = tree["training"].to_dataset() if "training" in tree.children else xr.Dataset()
    if "wall_time" not in training or not training.sizes["step"]:
        return lambda steps: np.full(len(steps), start)
    at, seconds = training["step"].values, np.nan_to_num(training["wall_time"].values)
    return lambda steps: start + np.interp(steps, at, seconds)

"""Import of TensorBoard's event files as recordings: the scalars of a run."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradscope import schema
from gradscope.errors import RecordingError, imports_of_extra
from gradscope.store.write.writer import RecordingWriter

EVENTS = "*tfevents*"
_EVALUATION = re.compile(
    r"(^|[./_])(val|valid|validation|test|eval|evaluation)([./_]|$)", re.IGNORECASE
)
_LOSS = re.compile(r"(^|[./_])(train|training)?[./_]?loss([./_]train)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Imported:
    """What was imported: tag → name in the recording, and the tags that were left out."""

    target: Path
    names: dict[str, str]
    left_out: tuple[str, ...]
    n_steps: int


def find_event_runs(folder: Path) -> list[Path]:
    """Return the folders with event files at or below a folder, in order.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = sorted({path.parent for path in folder.rglob(EVENTS) if path.is_file()})
    if not found:
        raise FileNotFoundError(f"there are no event files of TensorBoard in {folder}")
    return found


def import_events(folder: Path, target: Path, *, if_exists: str = "error") -> Imported:
    """Write the scalars of a run of TensorBoard as a recording.

    Parameters
    ----------
    folder : Path
        Holds event files. Of several values at one step, the last written holds.
    target : Path
        The recording, ``run.h5``.
    if_exists : {"error", "overwrite"}

    Returns
    -------
    Imported

    Notes
    -----
    Tags that name a validation or test go to ``/evaluation``, all others to ``/training``. What is
    alone in looking like the training loss is called ``loss``. Steps are those of the event files,
    one more where training begins at step 0, since rows of ``/training`` count from 1.
    """
    scalars, others = _read(folder)
    if not scalars:
        raise RecordingError(f"the event files in {folder} hold no scalar")
    names = name_tags(list(scalars))
    training = {tag for tag in scalars if not _EVALUATION.search(tag)}
    shift = int(any(scalars[tag][0].min() < 1 for tag in training))
    first = min(times.min() for _, times, _ in scalars.values())
    attrs = {
        "command": f"gradscope import {folder.name}",
        "config_json": json.dumps({"imported_from": "TensorBoard", "steps_shifted_by": shift}),
        "run_name": folder.name,
    }
    rows = 0
    with RecordingWriter(target, attrs=attrs, if_exists=if_exists) as writer:
        for group, tags in (("training", training), ("evaluation", set(scalars) - training)):
            table = _table({names[tag]: scalars[tag] for tag in sorted(tags)}, shift, float(first))
            if group == "evaluation":
                table.pop("wall_time", None)
            if len(table["step"]):
                writer.append(group, table)
            rows = max(rows, len(table["step"]))
    return Imported(target, names, tuple(others), rows)


def name_tags(tags: list[str]) -> dict[str, str]:
    """Return the name of each tag in the recording; all are different.

    >>> name_tags(["Loss/train", "val/acc"])
    {'Loss/train': 'loss', 'val/acc': 'val.acc'}
    """
    losses = [tag for tag in tags if _LOSS.search(tag) and not _EVALUATION.search(tag)]
    if not losses:
        losses = [t for t in tags if re.fullmatch(r"loss[./_]train(ing)?", t, re.IGNORECASE)]
    names: dict[str, str] = {}
    for tag in tags:
        name = "loss" if losses == [tag] else _stored(tag)
        taken = {*names.values()}
        while name in taken or (name in _RESERVED and name != "loss"):
            name += "_"
        names[tag] = name
    return names


_RESERVED = {*schema.INDEXES, *schema.PARAM_COORDINATES, *schema.LAYER_COORDINATES} | (
    set(schema.TRAINING.variables) - {"loss"}
)


def _stored(tag: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", tag.replace("/", ".")).strip(".-")
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def _read(
    folder: Path,
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], list[str]]:
    """Return steps, times and values of each scalar, and the tags of everything else."""
    with imports_of_extra("tensorboard"):
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util import tensor_util

    points: dict[str, dict[int, tuple[float, float]]] = {}
    others: dict[str, None] = {}
    for path in sorted(folder.glob(EVENTS), key=os.fspath):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value if event.HasField("summary") else ():
                number = _number(value, tensor_util)
                if number is None:
                    others[value.tag] = None
                else:
                    own = points.setdefault(value.tag, {})
                    own[event.step] = (event.wall_time, number)
    scalars = {}
    for tag, own in points.items():
        steps = np.array(sorted(own))
        pairs = np.array([own[step] for step in steps.tolist()], dtype=float)
        scalars[tag] = (steps, pairs[:, 0], pairs[:, 1])
    return scalars, [tag for tag in others if tag not in scalars]


def _number(value: Any, tensor_util: Any) -> float | None:
    """Return the number of a summary, which loaders hand over as a tensor; None if it has none."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    is_scalar = value.metadata.plugin_data.plugin_name == "scalars"
    if not value.HasField("tensor") or not is_scalar:
        return None
    array = np.asarray(tensor_util.make_ndarray(value.tensor))
    return float(array.reshape(-1)[0]) if array.size == 1 else None


def _table(
    scalars: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], shift: int, first: float
) -> dict[str, np.ndarray]:
    """Lay scalars out over the union of their steps, NaN where one has none."""
    steps = np.unique(np.concatenate([own[0] for own in scalars.values()] or [np.zeros(0, int)]))
    table = {"step": steps + shift, "wall_time": np.full(len(steps), np.nan)}
    for name, (own, times, values) in scalars.items():
        places = np.searchsorted(steps, own)
        table[name] = np.full(len(steps), np.nan)
        table[name][places] = values
        table["wall_time"][places] = times - first
    table["wall_time"] = np.maximum.accumulate(table["wall_time"])
    return table

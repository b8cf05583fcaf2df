"""What a sweep has done so far, read from its recordings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.errors import RecordingError
from gradscope.experiments.sweep.grid import Finished, Run, Sweep

if TYPE_CHECKING:
    import xarray

ENDED = ("finished", "diverged")
"""Statuses of a run that need no further attempt."""


def find_todo(
    sweep: Sweep,
    outcomes: dict[Path, Finished],
    read: Callable[[Path], Finished | None] | None = None,
) -> list[Run]:
    """Return the runs of the plan that have not ended; adds to ``outcomes`` those that have.

    ``read`` says how the run of a recording ended; by default `read_outcome`.
    """
    read = read or read_outcome
    while True:
        missing = [run for run in sweep.plan(outcomes) if run.path not in outcomes]
        found = {run.path: ended for run in missing if (ended := read(run.path))}
        if not found:
            return missing
        outcomes |= found


def read_outcome(path: Path) -> Finished | None:
    """Return how a recorded run ended; None where it is missing, unfinished or damaged."""
    from gradscope.store.read.recording import open_recording

    if not path.exists():
        return None
    try:
        tree = open_recording(path)
    except (RecordingError, OSError):
        return None
    try:
        if tree.attrs.get("status") not in ENDED:
            return None
        return Finished(tree.attrs["status"], last_metrics(tree))
    finally:
        tree.close()


def last_metrics(tree: xarray.DataTree) -> dict[str, float]:
    """Return the last value of each metric of a recording's evaluations."""
    known = {str(name): array.dropna("step").values for name, array in tree["evaluation"].items()}
    return {name: float(values[-1]) for name, values in known.items() if len(values)}


def write_index(sweep: Sweep, outcomes: Mapping[Path, Finished]) -> None:
    """Write ``index.json`` beside the recordings: path, status, configuration and metrics."""
    rows = [
        {
            "path": run.path.name,
            "status": outcomes[run.path].status,
            "metrics": dict(outcomes[run.path].metrics),
            "config": json.loads(run.config.resolved().to_json()),
        }
        for run in sweep.plan(outcomes)
        if run.path in outcomes
    ]
    sweep.folder.mkdir(parents=True, exist_ok=True)
    partial = sweep.folder / ".index.json.new"
    partial.write_text(json.dumps({"name": sweep.name, "arm": sweep.arm, "runs": rows}, indent=1))
    partial.replace(sweep.folder / "index.json")


def format_seconds(seconds: float) -> str:
    """Write a duration in the unit that suits it.

    >>> format_seconds(5400)
    '1.5 h'
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""What ``gradscope record --json`` says of the recordings that it made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradscope.cli.output import print_json


def print_result(
    paths: Sequence[Path], exit_code: int, *, problems: Sequence[str] = (), seconds: float = 0.0
) -> None:
    """Print one line of JSON, the last of standard output.

    Parameters
    ----------
    paths : sequence of Path
        The recordings; of a script there may be none, or several.
    exit_code : int
        Of the command.
    problems : sequence of str
        Why something was not recorded.
    seconds : float
        Duration of the training, where that is known better than from the recording.
    """
    found = [describe_recording(path, seconds) for path in paths]
    line = {"recordings": found, "exit_code": exit_code, "problems": list(problems)}
    print_json(line, is_line=True)


def describe_recording(path: Path, seconds: float = 0.0) -> dict[str, Any]:
    """Summarise a recording that was just made.

    Returns
    -------
    dict
        ``recording``, ``n_bytes``, ``status``, ``stop_reason``, ``n_steps``; ``seconds`` of
        training, ``record_seconds`` of them, and ``overhead``, their ratio; ``last``, the newest
        value of each scalar; ``health``, the findings, the most severe first. A recording that
        cannot be read has ``recording`` and ``error`` alone.
    """
    from gradscope.derived.health.check import check_health
    from gradscope.derived.summary import summarise
    from gradscope.errors import GradscopeError
    from gradscope.store.read.recording import open_recording

    try:
        with open_recording(path) as tree:
            summary = summarise(tree)
            findings = check_health(tree)
    except (GradscopeError, OSError) as error:
        return {"recording": str(path), "error": str(error)}
    attributes, last = summary["attributes"], summary["last"]
    seconds = seconds or (last.get("wall_time", {}).get("value") or 0.0)
    record_seconds = attributes.get("record_seconds")
    is_known = record_seconds is not None and seconds > 0
    return {
        "recording": str(path),
        "n_bytes": path.stat().st_size if path.exists() else None,
        "status": attributes.get("status"),
        "stop_reason": attributes.get("stop_reason", ""),
        "n_steps": summary["groups"].get("training", {}).get("last_step") or 0,
        "seconds": seconds,
        "record_seconds": record_seconds,
        "overhead": record_seconds / seconds if is_known else None,
        "last": {name: newest["value"] for name, newest in last.items()},
        "health": [dataclasses.asdict(finding) for finding in findings],
    }

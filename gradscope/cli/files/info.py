"""Summarise a recording: configuration, sizes, steps, layers, last values and health."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradscope.cli.output import add_json, name_some, print_json
from gradscope.cli.recordings import one_recording

SUMMARY = "summarise a recording"

_HEAD = (
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
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "recording",
        metavar="RECORDING",
        nargs="?",
        help="a .h5 file, finished or running (default: the newest in runs/)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read and print."""
    summary = read_summary(one_recording(arguments.recording, "info"))
    if arguments.json:
        print_json(summary)
    else:
        print(as_text(summary))
    return 0


def read_summary(path: Path) -> dict[str, Any]:
    """Summarise a recording, with its health and its sizes on disk.

    Raises
    ------
    FileNotFoundError, RecordingError
        If there is none, or it cannot be read.
    """
    from gradscope.derived.health.check import check_health
    from gradscope.derived.summary import summarise
    from gradscope.store.format.segments import finished_path, part_folder
    from gradscope.store.read.recording import open_recording

    tree = open_recording(path)
    try:
        summary = summarise(tree)
        summary["health"] = [dataclasses.asdict(finding) for finding in check_health(tree)]
    finally:
        tree.close()
    finished = finished_path(path)
    is_open = not finished.exists()
    parts = sorted(part_folder(finished).glob("*.h5")) if is_open else [finished]
    # A writer may merge a segment between listing and reading it.
    n_bytes = sum(part.stat().st_size for part in parts if part.exists())
    return {"recording": str(path), "n_bytes": n_bytes, "is_open": is_open, **summary}


def as_text(summary: dict[str, Any]) -> str:
    """Format a summary as text."""
    settings = summary["configuration"].items()
    total = f"{summary['n_parameters']:,} parameters in {len(summary['layers'])} layers"
    sections: list[tuple[str, list[tuple[Any, ...]]]] = [
        (summary["recording"], _head(summary)),
        ("configuration", [(key, json.dumps(value)) for key, value in settings]),
        ("recorded", [_group(*item) for item in summary["groups"].items() if item[1]["n_rows"]]),
        (total, [_layer(layer) for layer in summary["layers"]]),
        ("not shown in pictures of weights (--by param)", _not_shown(summary["not_shown"])),
        ("last values", [_last(*item) for item in summary["last"].items()]),
        ("health", _health(summary["health"])),
    ]
    return "\n\n".join("\n".join([title, *_table(rows)]) for title, rows in sections if rows)


def _head(summary: dict[str, Any]) -> list[tuple[Any, ...]]:
    from gradscope.derived.optimizers import count_classes

    known = dict(summary["attributes"])
    known["optimizer_name"] = count_classes(str(known.get("optimizer_name", "")))
    rows = [
        (key.replace("_", " "), " ".join(str(known[key]).split()))
        for key in _HEAD
        if known.get(key, -1) not in (-1, "")
    ]
    size = f"{summary['n_bytes'] / 1e6:.2f} MB"
    if summary["is_open"]:
        size += " in segments: still running, or stopped before it was closed"
    rows.append(("size", size))
    if "record_seconds" in known:
        rows.append(("recording took", f"{known['record_seconds']:.3g} s within the steps"))
    return rows


def _group(name: str, group: dict[str, Any]) -> tuple[str, ...]:
    steps = f"steps {group['first_step']:,} to {group['last_step']:,}"
    return name, f"{group['n_rows']:,} rows", steps, f"{len(group['variables'])} variables"


def _layer(layer: dict[str, Any]) -> tuple[str, ...]:
    has_depth = layer["depth"] is not None and layer["depth"] >= 0
    depth = f"depth {layer['depth']}" if has_depth else ""
    name = layer["layer"] or "(of no module)"
    return name, layer["type"] or "", depth, f"{layer['n_parameters']:,}"


def _not_shown(names: dict[str, list[str]]) -> list[tuple[str, ...]]:
    return [(kind, f"{len(some):,}", name_some(some)) for kind, some in names.items()]


def _last(name: str, newest: dict[str, Any]) -> tuple[str, ...]:
    unknown = "not finite" if newest.get("is_nonfinite") else "–"
    return name, _number(newest["value"], unknown), f"step {newest['step']:,}"


def _health(findings: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    if not findings:
        return [("no rule fired",)]
    return [
        row
        for finding in findings
        for row in (
            (finding["severity"], f"{finding['rule']}: {finding['message']}"),
            ("", f"try: {finding['advice']}"),
        )
    ]


def _table(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Align columns, two blanks apart."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*texts, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in texts]
    return ["  " + "  ".join(row).rstrip() for row in padded]


def _number(value: Any, unknown: str) -> str:
    if isinstance(value, list):
        return ", ".join(_number(each, unknown) for each in value)
    if value is None:
        return unknown
    return f"{value:.6g}" if isinstance(value, float) else str(value)

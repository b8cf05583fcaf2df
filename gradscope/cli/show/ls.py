"""List the recordings below a folder: status, newest numbers, what differs between them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gradscope.cli.recordings import as_path

SUMMARY = "list the recordings below a folder"
_STYLES = {
    "live": "green",
    "killed": "red",
    "failed": "red",
    "diverged": "red",
    "unreadable": "red",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", metavar="DIR", nargs="?", default=".", help="(default: this one)")
    parser.add_argument("--health", action="store_true", help="judge the health of each run too")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Read and print."""
    from gradscope.view.catalog import scan
    from gradscope.view.rows import read_health, read_row

    folder = as_path(arguments.folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    found = scan(folder.resolve())
    rows = [read_row(run) for run in found.values()]
    if arguments.health:
        rows = [row | {"health": read_health(found[row["key"]])} for row in rows]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        _print_table(rows)
    else:
        print(f"there is no recording in {folder}")
    return 0


def differing(rows: list[dict[str, Any]]) -> list[str]:
    """Return the settings that are not the same in all runs."""
    names = dict.fromkeys(name for row in rows for name in row["settings"])
    return [n for n in names if len({repr(row["settings"].get(n)) for row in rows}) > 1]


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    settings = [name for name in differing(rows) if name != "notes"][:6]
    has_health = any("health" in row for row in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = ("run", "status", "step", "loss", "accuracy", "duration", *["health"] * has_health)
    for head in (*heads, *settings):
        numeric = head in ("step", "loss", "accuracy", "duration")
        table.add_column(Text(head), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        cells = [Text(row["name"]), Text(row["status"], style=_STYLES.get(row["status"], ""))]
        cells += [
            Text(_number(row.get(name), form))
            for name, form in (
                ("step", ",d"),
                ("loss", ".4g"),
                ("accuracy", ".1%"),
                ("duration", ".0f"),
            )
        ]
        if has_health:
            cells.append(Text(row["health"]["worst"]))
        cells += [Text(_plain(row["settings"].get(name))) for name in settings]
        table.add_row(*cells)
    Console().print(table)


def _number(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form) + (" s" if form == ".0f" else "")


def _plain(value: Any) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

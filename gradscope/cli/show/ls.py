"""List the recordings below a folder: status, newest numbers, what differs between them.

In a terminal the columns are aligned. Where the output goes to a file or another program, cells are
separated by tabs, numbers have no units, and what is not known is empty.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from gradscope.cli.output import add_json, print_json
from gradscope.cli.recordings import as_path

SUMMARY = "list the recordings below a folder"
_STYLES = {
    "live": "green",
    "killed": "red",
    "failed": "red",
    "diverged": "red",
    "unreadable": "red",
}
NUMBERS = {"step": ",d", "loss": ".4g", "accuracy": ".1%", "duration": ".0f"}
"""Columns of numbers, and how a terminal shows them."""
_BLANK = {ord(c): " " for c in "\t\n\r"}
PADDING = 3
"""Blanks between two columns of a terminal."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", metavar="DIR", nargs="?", default=".", help="(default: this one)")
    parser.add_argument("--health", action="store_true", help="judge the health of each run too")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read and print."""
    from gradscope.view.catalog import scan
    from gradscope.view.rows import read_health, read_row

    folder = as_path(arguments.folder, "a folder")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    found = scan(folder.resolve())
    rows = [read_row(run) for run in found.values()]
    if arguments.health:
        rows = [row | {"health": read_health(found[row["key"]])} for row in rows]
    if arguments.json:
        print_json(rows)
    elif not rows:
        print(f"there is no recording in {folder}", file=sys.stderr)
    elif sys.stdout.isatty():
        _print_table(rows, has_health=arguments.health)
    else:
        print(as_lines(rows, has_health=arguments.health))
    return 0


def differing(rows: list[dict[str, Any]]) -> list[str]:
    """Return the settings that are not the same in all runs, without notes."""
    names = dict.fromkeys(name for row in rows for name in row["settings"] if name != "notes")
    return [n for n in names if len({repr(row["settings"].get(n)) for row in rows}) > 1]


def as_lines(rows: list[dict[str, Any]], *, has_health: bool) -> str:
    """Return a line a run after one with the names, cells separated by tabs."""
    settings = differing(rows)
    lines = [("run", "status", *NUMBERS, *["health"] * has_health, *settings)]
    for row in rows:
        health = [row["health"]["worst"]] if has_health else []
        numbers = [row.get(name) for name in NUMBERS]
        own = [row["settings"].get(name) for name in settings]
        lines.append((row["name"], row["status"], *map(_bare, (*numbers, *health, *own))))
    return "\n".join("\t".join(cell.translate(_BLANK) for cell in line) for line in lines)


def _print_table(rows: list[dict[str, Any]], *, has_health: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    columns = _columns(rows, has_health=has_health)
    settings = {n: [_plain(row["settings"].get(n)) for row in rows] for n in differing(rows)}
    shown = fitting(columns, settings, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in shown:
        has_lines = head == "run" or head in settings
        table.add_column(
            Text(head),
            justify="right" if head in NUMBERS else "left",
            overflow="fold",
            no_wrap=not has_lines,
        )
    for cells in zip(*shown.values(), strict=True):
        named = zip(shown, cells, strict=True)
        table.add_row(*(Text(c, _STYLES.get(c, "") if h == "status" else "") for h, c in named))
    console.print(table)
    if hidden := [name for name in settings if name not in shown]:
        words = f"{len(hidden)} more setting{'s differ' if len(hidden) > 1 else ' differs'}"
        console.print(Text(f"{words}: {', '.join(hidden)}; see --json", style="dim"))


def _columns(rows: list[dict[str, Any]], *, has_health: bool) -> dict[str, list[str]]:
    """Return the cells of the columns that every run has, by their heading."""
    columns = {
        "run": [row["name"].translate(_BLANK) for row in rows],
        "status": [row["status"] for row in rows],
    }
    columns |= {
        name: [_number(row.get(name), form) for row in rows] for name, form in NUMBERS.items()
    }
    return columns | ({"health": [row["health"]["worst"] for row in rows]} if has_health else {})


def fitting(
    columns: dict[str, list[str]], settings: dict[str, list[str]], width: int
) -> dict[str, list[str]]:
    """Return the columns, and those of the settings that a terminal has room for.

    >>> fitting({"run": ["a"]}, {"lr": ["0.1"], "notes": ["a long text"], "seed": ["1"]}, 20)
    {'run': ['a'], 'lr': ['0.1'], 'seed': ['1']}
    """
    shown = dict(columns)
    left = width - sum(map(_width, columns.items()))
    for name, cells in settings.items():
        if (needed := _width((name, cells))) <= left:
            shown[name] = cells
            left -= needed
    return shown


def _width(column: tuple[str, list[str]]) -> int:
    head, cells = column
    return max(map(len, (head, *cells))) + PADDING


def _number(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form) + (" s" if form == ".0f" else "")


def _plain(value: Any) -> str:
    return _bare(value) or "–"


def _bare(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

"""The tables that benchmarks write under ``benchmarks/results/``."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def about_machine(**more: Any) -> dict[str, Any]:
    """Return the kind of the machine, threads, version of torch, and the load at this moment."""
    return {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
        **more,
    }


def in_words(about: Mapping[str, Any]) -> str:
    """Return one sentence from `about_machine`."""
    speed = f", reading {about['read_GB_per_s']:.0f} GB/s" if "read_GB_per_s" in about else ""
    return (
        f"{about['machine']}, {about['threads']} threads, torch {about['torch']}{speed}; load "
        f"before: {about['load']:.1f}."
    )


def table(columns: str, rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table: text on the left, numbers on the right.

    Parameters
    ----------
    columns : str
        Their names, divided by ``|``.
    rows : iterable of rows of str
    """
    n_numbers = columns.count("|")
    head = [f"| {columns} |", "|---|" + "---:|" * n_numbers]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def write(name: str, lines: Iterable[str], content: Mapping[str, Any]) -> None:
    """Write a page and the numbers in it, ``<name>.md`` and ``<name>.json``, and print the page."""
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    numbers = json.dumps(content, indent=1)
    (RESULTS / f"{name}.json").write_text(numbers + "\n", encoding="utf-8")

"""The report page: a single HTML file without network requests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import xarray as xr

import gradscope
from gradscope.derived.select import BY
from gradscope.errors import UsageError, imports_of_extra, unknown
from gradscope.report.data import (
    choose_quantities,
    describe_quantity,
    encode_run,
    joint_scales,
    max_columns,
    read_run,
)
from gradscope.report.encode import pack, to_json
from gradscope.report.tables import compare, describe_run
from gradscope.store.read.recording import open_recording
from gradscope.store.read.run_attributes import name_runs
from gradscope.store.read.runs import Paths, find_runs

with imports_of_extra("report"):
    import jinja2
    from plotly.offline import get_plotlyjs

__all__ = ["render_report", "write_report"]

SCRIPTS = ("unpack.js", "picture.js", "explore.js", "page.js")
"""Joined in this order into one script, after which nothing else runs."""


@dataclass(frozen=True)
class Report:
    """A page that was written: where, of which runs, and the quantities in it with their labels."""

    path: Path
    runs: tuple[str, ...]
    quantities: dict[str, str]


def write_report(
    paths: Paths,
    out: str | os.PathLike[str],
    *,
    quantities: Sequence[str] | None = None,
    by: str = "weight",
) -> Path:
    """Write the report of one or many recordings.

    Parameters
    ----------
    paths : path, glob pattern, or iterable of them
        Recordings, finished or being written.
    out : path-like
        The page; an older one is replaced once the new one is complete.
    quantities : sequence of str, optional
        What can be picked: variables over steps and layers, or ``["all"]``; the usual ones by
        default.
    by : {"weight", "param", "layer", "stage", "layer_type"}
        What is a row, as in `gradscope.derived.select.select`.

    Returns
    -------
    Path
        Where the page is.

    Raises
    ------
    FileNotFoundError, RecordingError
        If a recording is missing or damaged.
    UsageError
        If no run has a quantity that was asked for.
    """
    return make_report(paths, out, quantities=quantities, by=by).path


def make_report(
    paths: Paths,
    out: str | os.PathLike[str],
    *,
    quantities: Sequence[str] | None = None,
    by: str = "weight",
) -> Report:
    """Write the report, as `write_report` does, and return what it shows."""
    files = find_runs(paths)
    with ExitStack() as stack:
        trees = [stack.enter_context(open_recording(file)) for file in files]
        names = name_runs(files)
        data = page_data(trees, names, quantities, by)
        page = _render(trees, files, names, data)
    out = Path(out)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    labels = {name: str(described["label"]) for name, described in data["quantities"].items()}
    return Report(out, tuple(names), labels)


def render_report(
    trees: Sequence[xr.DataTree],
    files: Sequence[Path],
    *,
    quantities: Sequence[str] | None = None,
    by: str = "weight",
) -> str:
    """Return the page of opened recordings as text; the same recordings give the same text."""
    names = name_runs(list(files))
    return _render(trees, files, names, page_data(trees, names, quantities, by))


def _render(
    trees: Sequence[xr.DataTree], files: Sequence[Path], names: list[str], data: dict[str, Any]
) -> str:
    runs = [
        describe_run(tree, name) | {"path": file}
        for tree, name, file in zip(trees, names, files, strict=True)
    ]
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            runs=runs,
            comparison=compare(trees, runs) if len(runs) > 1 else None,
            has_rows=bool(data["quantities"]),
            data=pack(to_json(data)),
            library=pack(get_plotlyjs()),
            script="\n".join(map(_asset, SCRIPTS)),
            style=_asset("page.css"),
            version=gradscope.__version__,
        )
    )


def page_data(
    trees: Sequence[xr.DataTree],
    names: Sequence[str],
    quantities: Sequence[str] | None = None,
    by: str = "weight",
) -> dict[str, Any]:
    """Return what the page draws: quantities with their scales, and the numbers of each run."""
    if by not in BY:
        raise UsageError(unknown("grouping", by, BY))
    wanted = choose_quantities(trees, quantities)
    is_asked = quantities is not None and list(quantities) != ["all"]
    runs = [
        read_run(tree, name, wanted, by, is_asked=is_asked)
        for tree, name in zip(trees, names, strict=True)
    ]
    scales = joint_scales(runs, wanted)
    n_columns = max_columns(runs, scales)
    first = {name: next(run.rows[name] for run in runs if name in run.rows) for name in scales}
    return {
        "quantities": {name: describe_quantity(first[name], scales[name]) for name in scales},
        "runs": [encode_run(run, scales, n_columns) for run in runs],
    }


def _environment() -> jinja2.Environment:
    """Escape everything that a template prints."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return resources.files("gradscope.report").joinpath(name).read_text(encoding="utf-8")

"""What the page can ask about runs: their map, their curves, their difference, their story."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradscope.derived.select import BY
from gradscope.errors import UsageError, unknown
from gradscope.report.tables import describe_run
from gradscope.store.read.recording import open_recording
from gradscope.view.catalog import Found
from gradscope.view.curves import X_AXES, Curve, describe_curves, read_curve
from gradscope.view.maps import choices, difference_map, run_map

MAX_RUNS = 100
"""Runs that are drawn together."""

Rows = Mapping[str, Mapping[str, Any]]
Parameters = Mapping[str, str]


def about(runs: list[Found], asked: Parameters, rows: Rows) -> dict[str, Any]:
    """Return facts, configuration and findings of a run, as text."""
    run = runs[0]
    with open_recording(run.path) as tree:
        story = describe_run(tree, run.name)
    return story | {"status": rows.get(run.key, {}).get("status", story["status"])}


def map_(runs: list[Found], asked: Parameters, rows: Rows) -> dict[str, Any]:
    """Return the map of one run."""
    run = runs[0]
    quantity, by = asked.get("quantity", ""), _one_of(asked, "by", BY)
    return run_map(run.path, run.name, quantity=quantity, by=by, columns=_columns(asked))


def difference(runs: list[Found], asked: Parameters, rows: Rows) -> dict[str, Any]:
    """Return the map of the first run against the second."""
    if len(runs) < 2:
        raise UsageError("a difference needs two runs")
    first, second = runs[:2]
    return difference_map(
        (first.path, second.path),
        (first.name, second.name),
        quantity=asked.get("quantity") or "grad_norm",
        by=_one_of(asked, "by", BY),
        columns=_columns(asked),
    )


def curves(runs: list[Found], asked: Parameters, rows: Rows) -> dict[str, Any]:
    """Return one number of many runs; runs that lack it are named with the reason."""
    name, x = asked.get("name") or "loss", _one_of(asked, "x", X_AXES)
    known: dict[str, Curve] = {}
    lacking: dict[str, str] = {}
    for run in runs:
        try:
            layer, by = asked.get("layer", ""), _one_of(asked, "by", BY)
            known[run.key] = read_curve(run.path, name, layer=layer, by=by, x=x)
        except (UsageError, OSError) as error:
            lacking[run.key] = str(error)
    group = asked.get("group", "")
    groups = {key: _setting(rows, key, group) for key in known} if group else {}
    points = max(_number(asked, "points", 800) // max(len(known) // 10, 1), 100)
    weight = min(max(_number(asked, "smooth", 0), 0), 99.9) / 100
    described = describe_curves(known, groups, weight=weight, points=min(points, 2000))
    return described | {"lacking": lacking, "name": name}


def names(runs: list[Found], asked: Parameters, rows: Rows) -> dict[str, Any]:
    """List the quantities by layer of the first of these runs that has any."""
    for run in runs[:5]:
        with open_recording(run.path) as tree:
            if found := choices(tree):
                return {"choices": found}
    return {"choices": []}


def _setting(rows: Rows, key: str, name: str) -> str:
    return f"{name} = {rows.get(key, {}).get('settings', {}).get(name, '–')}"


def _one_of(asked: Parameters, name: str, known: tuple[str, ...]) -> str:
    value = asked.get(name) or known[0]
    if value not in known:
        raise UsageError(unknown(name, value, known))
    return value


def _number(asked: Parameters, name: str, default: int) -> int:
    try:
        return int(float(asked.get(name) or default))
    except (ValueError, OverflowError):
        raise UsageError(f"{name} must be a number; got {asked[name]!r}") from None


def _columns(asked: Parameters) -> int:
    return min(max(_number(asked, "columns", 1000), 50), 3000)


KINDS: dict[str, Callable[[list[Found], Parameters, Rows], dict[str, Any]]] = {
    "about": about,
    "map": map_,
    "difference": difference,
    "curves": curves,
    "names": names,
}
"""By the last part of the address."""

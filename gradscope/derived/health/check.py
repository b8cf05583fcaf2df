"""Health of a run: rules that read a recording, finished or still being written."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from graphlib import TopologicalSorter

import xarray as xr

from gradscope.derived.health import rules
from gradscope.derived.health.rule import SEVERITIES, Finding, Rule
from gradscope.derived.health.run_data import RecordedRun

__all__ = ["RULES", "SEVERITIES", "Finding", "Rule", "check_health"]


def causes_first(known: Iterable[Rule]) -> tuple[Rule, ...]:
    """Order rules so that each comes before those that it explains."""
    by_name = {rule.name: rule for rule in known}
    order = TopologicalSorter[str](dict.fromkeys(by_name, ()))
    for rule in by_name.values():
        for explained in rule.explains:
            order.add(explained, rule.name)
    return tuple(by_name[name] for name in order.static_order() if name in by_name)


def _find_rules() -> tuple[Rule, ...]:
    """Collect ``RULES`` of every module in `gradscope.derived.health.rules`."""
    modules = sorted(module.name for module in pkgutil.iter_modules(rules.__path__))
    found = (importlib.import_module(f"{rules.__name__}.{name}").RULES for name in modules)
    return causes_first(rule for own in found for rule in own)


RULES: tuple[Rule, ...] = _find_rules()
"""Every rule of the package, each before what follows from it."""


def check_health(
    tree: xr.DataTree, *, window: int | None = None, extra: Sequence[Rule] = ()
) -> tuple[Finding, ...]:
    """Find what is wrong with a run, worst first.

    A finding that another one explains becomes a note that says so: dead ReLUs let no gradient
    through, so the stalled loss beside them is no second problem.

    Parameters
    ----------
    tree : DataTree
        A recording, also one that is being written, or one with few groups.
    window : int, optional
        Look at this many last rows of each group; by default at all.
    extra : sequence of Rule
        More rules to apply after those of the package.

    Returns
    -------
    tuple of Finding
        Errors, warnings, notes; empty when there is nothing to say. A rule is silent where its
        inputs were not recorded, so an empty result does not prove that the run is healthy.

    Raises
    ------
    ValueError
        If ``tree`` holds several runs, or ``window`` is below 1.
    """
    run = RecordedRun(tree, window)
    found: list[Finding] = []
    causes: dict[str, str] = {}
    for rule in causes_first([*RULES, *extra]) if extra else RULES:
        for finding in rule.find(run):
            if rule.name in causes:
                message = f"{finding.message} (follows from: {causes[rule.name]})"
                finding = dataclasses.replace(finding, severity="note", message=message)
            found.append(finding)
            if finding.severity != "note":
                for name in rule.explains:
                    causes.setdefault(name, rule.name)
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))

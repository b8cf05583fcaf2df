"""What is wrong with a run: rules that read a recording, finished or still being written."""

from __future__ import annotations

import dataclasses

import xarray as xr

from gradscope.derived.health import (
    dead_units,
    exponent_range,
    gradient_flow,
    learning_rate,
    loss,
    numerics,
)
from gradscope.derived.health.rule import SEVERITIES, Finding, Rule
from gradscope.derived.health.run_data import Run

__all__ = ["RULES", "SEVERITIES", "Finding", "Rule", "check_health"]

RULES: tuple[Rule, ...] = (
    numerics.OVERFLOW,
    numerics.NONFINITE,
    loss.DIVERGED,
    gradient_flow.BAD_INIT,
    learning_rate.NO_WARMUP,
    learning_rate.TOO_HIGH,
    dead_units.DEAD_RELU,
    gradient_flow.VANISHING,
    gradient_flow.EXPLODING,
    dead_units.FROZEN,
    learning_rate.TOO_LOW,
    numerics.BLOW_UP_RULE,
    loss.STALLED,
    exponent_range.DIVERGES,
    exponent_range.STALLS,
    exponent_range.GAP_RULE,
)
"""Every rule, each before what follows from it; the signs of a theory last."""


def check_health(tree: xr.DataTree, *, window: int | None = None) -> tuple[Finding, ...]:
    """Return what is wrong with a run, worst first.

    What follows from another finding becomes a note that says so: dead ReLUs let no gradient
    through, so the stalled loss beside them is no second problem.

    Parameters
    ----------
    tree : DataTree
        A recording, also one that is being written, or one with few groups.
    window : int, optional
        Rows of each group to look at, the last ones; all by default.

    Returns
    -------
    tuple of Finding
        Errors, warnings, notes; empty when there is nothing to say. No finding is no proof of
        health: a rule is silent where what it reads was not recorded.

    Raises
    ------
    ValueError
        If ``tree`` holds several runs, or ``window`` is below 1.
    """
    run = Run(tree, window)
    found: list[Finding] = []
    causes: dict[str, str] = {}
    for rule in RULES:
        for finding in rule.find(run):
            if rule.name in causes:
                message = f"{finding.message} (follows from: {causes[rule.name]})"
                finding = dataclasses.replace(finding, severity="note", message=message)
            found.append(finding)
            if finding.severity != "note":
                for name in rule.explains:
                    causes.setdefault(name, rule.name)
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))

"""What a health rule is, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradscope.derived.health.run_data import RecordedRun

SEVERITIES = ("error", "warning", "note")
"""Worst first: the run is lost; it trains badly; good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run, or good to know about it.

    Parameters
    ----------
    rule : str
        Name of the rule, such as "vanishing gradients".
    severity : {"error", "warning", "note"}
        The run is lost; it trains badly; good to know.
    message : str
        One line: what was seen, with numbers.
    layers : tuple of str
        Layers or parameters concerned, in network order; empty for the whole run.
    first_step, last_step : int or None
        Where it was seen.
    advice : str
        The first thing to try, one line.
    """

    rule: str
    severity: str
    message: str
    layers: tuple[str, ...] = ()
    first_step: int | None = None
    last_step: int | None = None
    advice: str = ""


@dataclass(frozen=True)
class Sign:
    """What a rule saw: a finding without the rule's name and advice."""

    severity: str
    message: str
    layers: tuple[str, ...] = ()
    first_step: int | None = None
    last_step: int | None = None


@dataclass(frozen=True)
class Rule:
    """One health rule.

    Parameters
    ----------
    name : str
        As it stands in a finding.
    formula : str
        What it looks at and when it fires, in words.
    advice : str
        The first thing to try.
    check : callable of RecordedRun -> list of Sign
        Silent, that is empty, where what it reads was not recorded.
    thresholds : mapping of str to float
        The numbers in the formula.
    explains : tuple of str
        Rules whose warnings follow from this one's; they become notes beside it.
    """

    name: str
    formula: str
    advice: str
    check: Callable[[RecordedRun], list[Sign]]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    explains: tuple[str, ...] = ()

    def find(self, run: RecordedRun) -> list[Finding]:
        """Apply the rule to a run."""
        return [
            Finding(
                rule=self.name,
                severity=sign.severity,
                message=sign.message,
                layers=sign.layers,
                first_step=sign.first_step,
                last_step=sign.last_step,
                advice=self.advice,
            )
            for sign in self.check(run)
        ]

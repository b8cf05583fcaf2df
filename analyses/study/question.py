"""A question of the study: what it runs, what it measures in each run, and what it concludes.

Two halves, so that conclusions can be drawn again from the committed tables alone: ``measure``
opens recordings and writes down one or more rows a run; ``answer`` sees those rows only.
A module of a question ends in::

    QUESTION = Question(name="…", specs=(…), measure=measure, answer=answer)

    if __name__ == "__main__":
        raise SystemExit(command(QUESTION))  # from analyses.study.command
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import pandas as pd

from analyses.claims.claim import PRIMARIES, SCALES, Evidence
from analyses.study.run_records import RunRecord, Runs
from gradscope.errors import UsageError, unknown
from gradscope.stats.result import Result

__all__ = ["Answer", "Explored", "Question", "RunRecord", "Runs", "Tables"]

Tables = Mapping[str, pd.DataFrame]
"""Tables by name; a name becomes the file ``data/results/<question>/<scale>/<name>.csv``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explored:
    """One exploratory number: a hint for a next study, never a verdict.

    Parameters
    ----------
    key : str
        Hypothesis it bears on, ``"H1b"``; several rows may share one.
    statement : str
        What the number is, in words, with the arms and the networks.
    estimate, low, high : float
        The effect with its 95 % interval (nan where there is none).
    p : float, default nan
        Before correction; the report adjusts by Benjamini–Hochberg over the question.
    n : int
        Seeds.
    unit : str
    note : str, default ""
        What limits it: censoring, diverged runs, a rival explanation.
    """

    key: str
    statement: str
    estimate: float
    n: int
    unit: str
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    note: str = ""

    @classmethod
    def of(cls, key: str, statement: str, result: Result, unit: str, note: str = "") -> Self:
        """Take estimate, interval, p and n from a result of `gradscope.stats`."""
        return cls(
            key=key,
            statement=statement,
            estimate=result.estimate,
            low=result.low,
            high=result.high,
            p=result.p_value,
            n=result.n,
            unit=unit,
            note=note,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What the runs of one question say.

    Parameters
    ----------
    question : str
        Name of the question.
    scale : {"smoke", "cpu", "short", "full"}
    evidence : mapping of str to Evidence
        By the key of the primary claim; a primary whose runs are missing is left out.
    explored : tuple of Explored
        Everything else.
    tables : mapping of str to DataFrame
        What figures draw beside the measured tables: fits, intervals, curves.
    notes : tuple of str
        Break conditions looked at, censoring, diverged and failed runs.
    """

    question: str
    scale: str
    evidence: Mapping[str, Evidence]
    explored: tuple[Explored, ...] = ()
    tables: Tables = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise UsageError(unknown("scale", self.scale, SCALES))
        known = [claim.key for claim in PRIMARIES]
        for key, given in self.evidence.items():
            if key not in known:
                raise UsageError(unknown("claim", key, known))
            if given.scale != self.scale:
                raise UsageError(
                    f"evidence on {key} is of scale {given.scale}, the answer of {self.scale}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A question, and how it is answered.

    Parameters
    ----------
    name : str
        Of its module and of its folder in ``data/results``.
    specs : sequence of str
        Stems of ``analyses/specs/*.toml``, most wanted first. One that has no ``[scale.S]`` is not
        run at scale S; ``full`` runs all, without one.
    measure : callable
        Runs to tables, one row (or a few) a run, each with the name of its run in a column
        ``run``. Opens recordings. Must bear specs without runs,
        and specs of which only some seeds are there.
    answer : callable
        Those tables and the scale to an Answer. Opens no file: the tables come back from CSV with
        every digit, empty ones left out.
    """

    name: str
    specs: Sequence[str]
    measure: Callable[[Runs], Tables]
    answer: Callable[[Tables, str], Answer]

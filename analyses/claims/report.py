"""Verdicts and exploratory findings as Markdown and JSON; every row names its scale."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analyses.claims.verdict import Verdict


def verdicts_markdown(verdicts: Sequence[Verdict]) -> str:
    """Draw the verdict table, then one paragraph per claim with reason and break conditions."""
    lines = [
        "| claim | verdict | effect [95 % interval] | margin | seeds | scale | reason |",
        "|---|---|---|---|---|---|---|",
    ]
    for v in verdicts:
        lines.append(
            f"| {v.key} | **{v.word}** | {_effect(v)} | {_margin(v)} | {v.n} | "
            f"{v.scale or 'none'} | {v.reason} |"
        )
    for v in verdicts:
        diverged = f"; {v.n_diverged} runs diverged" if v.n_diverged else ""
        lines += [
            "",
            f"**{v.key}** {v.statement}. *{v.word}* at scale {v.scale or 'none'}: {v.reason}. "
            f"Arms: {', '.join(v.arms) or 'none'}{diverged}. "
            f"Break conditions: {'; '.join(v.break_conditions) or 'none'}; "
            f"fired: {'; '.join(v.breaks_fired) or 'none'}.",
        ]
    return "\n".join(lines) + "\n"


def write_verdicts(
    verdicts: Sequence[Verdict], folder: Path, *, name: str = "verdicts"
) -> tuple[Path, Path]:
    """Write ``<name>.json`` and ``<name>.md`` into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_text = folder / f"{name}.json", folder / f"{name}.md"
    content = json.dumps([v.as_dict() for v in verdicts], indent=2, allow_nan=False)
    as_json.write_text(content + "\n", encoding="utf-8")
    as_text.write_text(verdicts_markdown(verdicts), encoding="utf-8")
    return as_json, as_text


def explored_markdown(explored: pd.DataFrame, scale: str) -> str:
    """Draw exploratory numbers: Benjamini–Hochberg p, no verdict word.

    Parameters
    ----------
    explored : DataFrame
        Rows of `analyses.study.results.explored_table`: everything that was looked at, not
        only small p.
    scale : str
        Scale of the runs behind them.
    """
    n_tests = int(explored["p"].notna().sum())
    lines = [
        f"Exploratory, at scale {scale}: p adjusted by Benjamini–Hochberg over {n_tests} tests; "
        "hints for a next study, no verdicts.",
        "",
        "| | question | effect [95 % interval] | adjusted p | seeds | note |",
        "|---|---|---|---|---|---|",
    ]
    for row in explored.itertuples():
        interval = _interval(float(row.estimate), float(row.low), float(row.high))
        p = "" if math.isnan(row.p_adjusted) else f"{row.p_adjusted:.3g}"
        lines.append(
            f"| {row.key} | {row.statement} | {interval} {row.unit} | {p} | {row.n} | {row.note} |"
        )
    return "\n".join(lines) + "\n"


def _effect(v: Verdict) -> str:
    if math.isnan(v.effect):
        return "none"
    return f"{_interval(v.effect, v.low, v.high)} {v.unit} ({v.component})"


def _margin(v: Verdict) -> str:
    return f"{v.margin:g}" + (f" ± {v.allowance:g} for tuning" if v.allowance else "")


def _interval(effect: float, low: float, high: float) -> str:
    bounds = "" if math.isnan(low) else f" [{low:.3g}, {high:.3g}]"
    return f"{effect:.3g}{bounds}"

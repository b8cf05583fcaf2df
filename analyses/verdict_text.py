"""Verdicts and exploratory findings as Markdown and JSON; every row names its scale."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from analyses.verdict import Verdict
from gradscope.stats.multiplicity import benjamini_hochberg
from gradscope.stats.result import Result


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


def write_verdicts(verdicts: Sequence[Verdict], folder: Path) -> tuple[Path, Path]:
    """Write ``verdicts.json`` and ``verdicts.md`` into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_text = folder / "verdicts.json", folder / "verdicts.md"
    content = json.dumps([v.as_dict() for v in verdicts], indent=2, allow_nan=False)
    as_json.write_text(content + "\n", encoding="utf-8")
    as_text.write_text(verdicts_markdown(verdicts), encoding="utf-8")
    return as_json, as_text


def exploratory_markdown(results: Mapping[str, Result], scale: str) -> str:
    """Draw exploratory results: Benjamini–Hochberg p, no verdict word.

    Parameters
    ----------
    results : mapping from a description to its Result
        Every test that was looked at, not only the small p.
    scale : str
        Scale of the runs behind them.
    """
    adjusted = benjamini_hochberg([r.p_value for r in results.values()]).adjusted
    lines = [
        f"Exploratory, at scale {scale}: p adjusted by Benjamini–Hochberg over {len(results)} "
        "tests; hints for a next study, no verdicts.",
        "",
        "| question | effect [interval] | adjusted p | n |",
        "|---|---|---|---|",
    ]
    for (name, result), p in zip(results.items(), adjusted, strict=True):
        interval = _interval(result.estimate, result.low, result.high)
        lines.append(f"| {name} | {result.quantity} {interval} | {p:.3g} | {result.n} |")
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

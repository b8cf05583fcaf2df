"""Text form of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradscope.derived.compare.conditions import Condition, is_seed
from gradscope.derived.compare.metrics import FinalMetric, is_share, metric_unit

if TYPE_CHECKING:
    from gradscope.derived.compare.result import Comparison, EffectMap

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_SETTINGS = 20


def comparison_text(comparison: Comparison) -> str:
    """Format a comparison as text: conditions, settings, final metrics and maps."""
    letters = dict(
        zip((condition.name for condition in comparison.conditions), LETTERS, strict=False)
    )
    parts = [
        [
            [letters[condition.name], condition.name, _runs(condition)]
            for condition in comparison.conditions
        ],
        _settings(comparison, letters),
        _final_metrics(comparison, letters),
    ]
    blocks = [_columns(rows) for rows in parts]
    titles = ["", "what differs", f"at the end, mean [{comparison.confidence:.0%} over runs]"]
    text = [
        f"{title}\n{block}" if title else block
        for title, block in zip(titles, blocks, strict=True)
        if block
    ]
    text += [_map_text(comparison, one, letters[one.condition.name]) for one in comparison.maps]
    return "\n\n".join(text)


def _columns(rows: list[list[str]]) -> str:
    """Align rows in columns of equal width."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(f"  {line}" for line in lines)


def _runs(condition: Condition) -> str:
    n_runs = len(condition.runs)
    seeds = [seed for seed in condition.seeds if seed]
    words = f"{n_runs} run{'s' if n_runs > 1 else ''}"
    if not seeds:
        return words
    shown = ", ".join(seeds) if len(seeds) <= 6 else f"{seeds[0]} … {seeds[-1]}"
    return f"{words}, seed{'s' if len(seeds) > 1 else ''} {shown}"


def _settings(comparison: Comparison, letters: dict[str, str]) -> list[list[str]]:
    names = [name for name in comparison.settings if not is_seed(name)]
    rows = [[name, *comparison.settings[name]] for name in names[:MAX_SETTINGS]]
    if not rows:
        return []
    more = len(names) - MAX_SETTINGS
    rows += [[f"({more} more)", *[""] * len(letters)]] if more > 0 else []
    return [["", *letters.values()], *rows]


def _final_metrics(comparison: Comparison, letters: dict[str, str]) -> list[list[str]]:
    first, *others = letters.values()
    metrics = list(dict.fromkeys(one.metric for one in comparison.final_metrics))
    if not metrics:
        return []
    rows = [["", *letters.values(), *(f"{letter} − {first}" for letter in others)]]
    for metric in metrics:
        own = [one for one in comparison.final_metrics if one.metric == metric]
        rows.append(
            [
                _metric_name(metric),
                *(_value(one) for one in own),
                *(_difference(one) for one in own[1:]),
            ]
        )
    if any(one.n_unfinished for one in comparison.final_metrics):
        first_rows = comparison.final_metrics[: len(letters)]
        unfinished = [f"{one.n_unfinished} of {one.n_runs}" for one in first_rows]
        rows.append(["runs not finished", *unfinished, *[""] * len(others)])
    return rows


def _metric_name(metric: str) -> str:
    unit = "%" if is_share(metric) else metric_unit(metric)
    words = "training loss, last 5 %" if metric == "loss" else metric.replace("_", " ")
    return f"{words} ({unit})" if unit else words


def _value(one: FinalMetric) -> str:
    text = _interval(one.metric, one.mean, one.low, one.high)
    return text if one.n in (0, one.n_runs) else f"{text}, {one.n} of {one.n_runs} runs"


def _difference(one: FinalMetric) -> str:
    if math.isnan(one.difference):
        return "—"
    values = (one.difference, one.difference_low, one.difference_high)
    return _interval(one.metric, *values, sign="+")


def _interval(metric: str, mean: float, low: float, high: float, *, sign: str = "") -> str:
    if math.isnan(mean):
        return "missing"
    factor, kind = (100, ".2f") if is_share(metric) else (1, ".4g")
    text, ends = (
        f"{factor * mean:{sign}{kind}}",
        f" [{factor * low:{sign}{kind}}, {factor * high:{sign}{kind}}]",
    )
    return text if math.isnan(low) else text + ends


def effect_text(effect: float, *, is_ratio: bool) -> str:
    """Format an effect as a factor or a signed difference.

    >>> effect_text(math.log(2), is_ratio=True), effect_text(-math.log(4), is_ratio=True)
    ('×2', '÷4')
    >>> effect_text(0.25, is_ratio=False)
    '+0.25'
    """
    if not is_ratio:
        return f"{effect:+.3g}"
    return f"{'×' if effect >= 0 else '÷'}{_factor(abs(effect))}"


def _factor(log: float) -> str:
    return f"{math.exp(log):.3g}" if log < 100 else f"10^{log / math.log(10):.0f}"


def place_text(comparison: Comparison, at: float) -> str:
    """Format a position on the axis of a comparison."""
    if comparison.axis == "step":
        return f"step {at:,.0f}"
    return f"epoch {at:.3g}" if comparison.axis == "epoch" else f"training loss {at:.3g}"


def _map_text(comparison: Comparison, one: EffectMap, letter: str) -> str:
    sign = "/" if comparison.is_ratio else "−"
    n_places, n_rows = one.effect.shape
    sizes = f"{n_places} places along {comparison.axis} × {n_rows} rows"
    return "\n".join(
        [
            f"{comparison.quantity}, {letter} {sign} A: {sizes}",
            *(f"  {line}" for line in _findings(comparison, one)),
        ]
    )


def _findings(comparison: Comparison, one: EffectMap) -> Sequence[str]:
    values = one.effect.values[np.isfinite(one.effect.values)]
    nonfinite = float(np.isinf(one.effect.values).mean())
    if not values.size:
        return ["no cell is known in both conditions"]
    low, middle, high = (
        effect_text(float(value), is_ratio=comparison.is_ratio)
        for value in (values.min(), sorted(values)[len(values) // 2], values.max())
    )
    missing = 1 - values.size / one.effect.size - nonfinite
    lines = [
        f"median {middle}, from {low} to {high}"
        + (f"; {missing:.1%} missing or zero" if missing > 0 else "")
        + (f"; {nonfinite:.1%} non-finite" if nonfinite else "")
    ]
    if one.p_value is None:
        return [*lines, one.note]
    error = f"{1 - comparison.confidence:.2g}"
    pairs = f"{one.n_pairs} pairs of runs, {one.note}"
    if one.first is None:
        return [*lines, f"nothing outside the seed band (family-wise error {error}; {pairs})"]
    first = one.first
    effect = effect_text(first.effect, is_ratio=comparison.is_ratio)
    return [
        *lines,
        f"first outside the seed band: {place_text(comparison, first.at)}, {first.layer}: {effect}",
        f"outside: {first.share:.1%} of the cells (family-wise error {error}; {pairs})",
    ]

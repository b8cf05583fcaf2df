"""Differences between conditions by layer and step, tested against the variation between seeds.

Magnitudes are compared by the logarithm of their ratio, signed quantities and shares by their
difference. All cells of a map (layer by step) are tested at once, max-T over pairs of runs, so that
one family-wise error rate holds for the whole map.

References
----------
Westfall & Young (1993), Resampling-Based Multiple Testing, Wiley.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.compare.align import align_runs
from gradscope.derived.compare.conditions import Condition, conditions_by_setting, pair_runs
from gradscope.derived.compare.metrics import final_metrics, settings_by_condition
from gradscope.derived.compare.result import Comparison, EffectMap, Outside
from gradscope.derived.compare.text import LETTERS
from gradscope.errors import UsageError
from gradscope.stats.labelled import max_t
from gradscope.stats.sample import check_fraction


def compare_runs(
    tree: xr.DataTree,
    data: xr.DataArray,
    conditions: Sequence[Condition] | None = None,
    *,
    axis: str = "step",
    confidence: float = 0.95,
) -> Comparison:
    """Compare every condition with the first.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_runs`; ``steps="union"`` keeps most rows.
    data : DataArray, dims (run, step, row)
        The quantity to compare, of the rows (layers) to compare. NaN where missing, infinite where
        not finite (`gradscope.derived.cells.nonfinite_as_infinity`).
    conditions : sequence of Condition, optional
        Two or more, from `gradscope.derived.compare.conditions`; by default runs that differ in
        their seed alone are one condition.
    axis : {"step", "epoch", "loss"}
        Axis on which the runs are aligned; see `align_runs`.
    confidence : float, default 0.95
        Confidence level of intervals and bands. Bands are joint over all cells of all maps (max-T
        within a map, Bonferroni over maps).

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        If there is one condition only, or more than 26, an option is unknown, or the runs do not
        overlap.

    Notes
    -----
    Runs are paired by seed where both conditions have a seed, once each, and the others in the
    order of their seeds: under the null hypothesis, that the setting changes nothing, the
    differences are symmetric either way. With n pairs, no p-value is below 2^(1 − n). If this
    exceeds the level, nothing is tested, and the note gives the number of pairs needed.
    """
    conditions = conditions_by_setting(tree) if conditions is None else conditions
    if len(conditions) < 2:
        raise UsageError(
            "all runs are replicates of each other: they differ in their seed at most, so there "
            "is nothing to compare"
        )
    if len(conditions) > len(LETTERS):
        raise UsageError(
            f"at most {len(LETTERS)} conditions can be compared at once; got {len(conditions)}: "
            "group them by fewer settings, or open fewer runs"
        )
    try:
        check_fraction(confidence, "confidence")
    except ValueError as error:
        raise UsageError(str(error)) from None
    aligned = align_runs(tree, data.astype(float), axis)
    is_ratio = is_magnitude(aligned)
    if is_ratio:
        values = aligned.values
        logs = np.log(values, where=values > 0, out=np.full_like(values, np.nan))
        aligned = aligned.copy(data=logs)
    level = (1 - confidence) / (len(conditions) - 1)
    return Comparison(
        quantity=str(data.name),
        axis=axis,
        conditions=tuple(conditions),
        settings=settings_by_condition(tree, conditions),
        final_metrics=final_metrics(tree, conditions, confidence=confidence),
        maps=tuple(
            _effect_map(aligned, conditions[0], condition, level=level)
            for condition in conditions[1:]
        ),
        is_ratio=is_ratio,
        confidence=confidence,
    )


def is_magnitude(data: xr.DataArray) -> bool:
    """Return whether a quantity is compared by ratios: a magnitude, no share or logarithm."""
    if schema.declaration(str(data.name), data.attrs).scale not in ("log", "auto"):
        return False
    finite = data.values[np.isfinite(data.values)]
    return bool(finite.size and finite.min() >= 0 and finite.max() > 0)


def _effect_map(
    logs: xr.DataArray, first: Condition, condition: Condition, *, level: float
) -> EffectMap:
    """Compare one condition with the first, and test the map if there are enough pairs."""
    effect = _effect(logs, first, condition)
    effect.attrs = dict(logs.attrs)
    if len(condition.runs) == 1 or len(first.runs) == 1:
        alone = [s.name for s in (first, condition) if len(s.runs) == 1]
        note = f"no seed band: one run only of {' and of '.join(alone)}"
        return EffectMap(
            condition=condition, effect=effect, p_value=None, first=None, n_pairs=1, note=note
        )
    pairs, how = pair_runs(first, condition)
    needed = 1 + math.ceil(math.log2(1 / level) - 1e-9)
    if len(pairs) < needed:
        note = (
            f"no seed band: {len(pairs)} pairs of runs give no p below "
            f"{2.0 ** (1 - len(pairs)):.3g}; {needed} would do"
        )
        return EffectMap(
            condition=condition,
            effect=effect,
            p_value=None,
            first=None,
            n_pairs=len(pairs),
            note=note,
        )
    ones, others = (logs.isel(run=[pair[i] for pair in pairs]) for i in (0, 1))
    with np.errstate(invalid="ignore"):  # infinite on both sides
        gaps = others.values - ones.values
    differences = others.copy(data=np.where(np.isfinite(gaps), gaps, np.nan))
    if not np.isfinite(differences.values).all(axis=0).any():
        note = "no seed band: no cell of the map is known in every run"
        return EffectMap(
            condition=condition,
            effect=effect,
            p_value=None,
            first=None,
            n_pairs=len(pairs),
            note=note,
        )
    p_value = max_t(differences, "run")["p_value"]
    return EffectMap(
        condition=condition,
        effect=effect,
        p_value=p_value,
        n_pairs=len(pairs),
        note=how,
        first=_first_outside(effect, p_value, level=level),
    )


def _effect(logs: xr.DataArray, first: Condition, condition: Condition) -> xr.DataArray:
    """Difference of the means; infinite where any run of either condition is not finite."""
    effect = _mean(logs, condition) - _mean(logs, first)
    part = logs.isel(run=[*first.runs, *condition.runs])
    return effect.copy(data=np.where(np.isinf(part.values).any(axis=0), np.inf, effect.values))


def _mean(logs: xr.DataArray, condition: Condition) -> xr.DataArray:
    """Average over the runs of a condition that have a value."""
    part = logs.isel(run=list(condition.runs))
    known = np.isfinite(part.values)
    total = np.where(known, part.values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    mean = np.divide(total, count, where=count > 0, out=np.full(total.shape, np.nan))
    kept = {name: c for name, c in logs.coords.items() if "run" not in c.dims}
    return xr.DataArray(mean, dims=logs.dims[1:], coords=kept, name=logs.name)


def _first_outside(effect: xr.DataArray, p_value: xr.DataArray, *, level: float) -> Outside | None:
    """Find the first position with any layer outside the band; on a loss axis, the highest loss."""
    axis, row = (str(dim) for dim in effect.dims)
    p = p_value.transpose(axis, row).values
    is_outside = p <= level * (1 + 1e-9)
    if not is_outside.any():
        return None
    places = np.flatnonzero(is_outside.any(axis=1))
    at = int(places[-1] if axis == "loss" else places[0])
    sizes = np.where(is_outside[at], np.abs(effect.values[at]), -1.0)
    best = min(range(len(sizes)), key=lambda i: (p[at, i] if sizes[i] >= 0 else 2.0, -sizes[i]))
    return Outside(
        at=float(effect[axis].values[at]),
        layer=_row_name(effect[row].values[best]),
        row=best,
        effect=float(effect.values[at, best]),
        p_value=float(p[at, best]),
        share=float(is_outside.sum() / np.isfinite(p).sum()),
    )


def _row_name(label: object) -> str:
    is_depth = isinstance(label, float | np.floating)
    return f"relative depth {label:.2f}" if is_depth else str(label)

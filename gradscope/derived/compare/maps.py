"""What differs between groups of runs: settings, outcomes, and where in the network and when.

Magnitudes are compared by the logarithm of their ratio, signed quantities and shares by their
difference. Whether a cell of the map (layer by step) lies outside what seeds do is asked of all
cells at once: max-T over pairs of runs, so that one error rate holds for the whole map.

References
----------
Westfall & Young (1993), Resampling-Based Multiple Testing, Wiley.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.derived.compare.align import align_runs
from gradscope.derived.compare.groups import Side, pair_runs
from gradscope.derived.compare.metrics import Outcome, outcomes, settings_by_side
from gradscope.derived.compare.text import comparison_text
from gradscope.errors import UsageError
from gradscope.stats.labelled import max_t
from gradscope.stats.result import plain
from gradscope.stats.sample import check_fraction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outside:
    """Where a map first leaves what seeds do.

    Parameters
    ----------
    at : float
        The first place on the axis with any layer outside.
    layer : str
        The clearest layer there.
    row : int
        Its place among the rows.
    effect : float
        Its log ratio (or difference).
    p_value : float
        Adjusted for the whole map.
    share : float
        Share of the tested cells that are outside.
    """

    at: float
    layer: str
    row: int
    effect: float
    p_value: float
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideMap:
    """One side against the first, layer by step.

    Parameters
    ----------
    side : Side
        The side that is compared with the first.
    effect : DataArray, dims (axis, row)
        Natural logarithm of the ratio of geometric means over runs, or difference of means; NaN
        where a side has no value (or, of a ratio, only zeros).
    p_value : DataArray or None
        Max-T p of each cell; None where there are too few pairs of runs.
    first : Outside or None
        None where nothing is outside, or nothing was tested.
    n_pairs : int
        Pairs of runs that the test flips.
    note : str
        How runs were paired, or why there is no band.
    """

    side: Side
    effect: xr.DataArray
    p_value: xr.DataArray | None
    first: Outside | None
    n_pairs: int
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that a comparison of runs says.

    Parameters
    ----------
    quantity, axis : str
        What is compared, along what.
    sides : tuple of Side
        The first is what the others are compared with.
    settings : dict
        Name of a setting that differs → its values on each side.
    outcomes : tuple of Outcome
        Final metrics, with intervals over runs.
    maps : tuple of SideMap
        One for each side but the first.
    is_ratio : bool
        Whether effects are log ratios, else differences.
    confidence : float
        Of all intervals, and of the bands over the whole family of maps.
    """

    quantity: str
    axis: str
    sides: tuple[Side, ...]
    settings: dict[str, tuple[str, ...]]
    outcomes: tuple[Outcome, ...]
    maps: tuple[SideMap, ...]
    is_ratio: bool
    confidence: float

    def __str__(self) -> str:
        """Set it as text: sides, settings, final metrics, and where the maps differ."""
        return comparison_text(self)

    def as_dict(self) -> dict[str, Any]:
        """Return all but the maps' cells, as JSON can hold it."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found["sides"] = [dataclasses.asdict(side) for side in self.sides]
        found["outcomes"] = [dataclasses.asdict(outcome) for outcome in self.outcomes]
        found["maps"] = [_map_dict(one) for one in self.maps]
        return plain(found)


def _map_dict(one: SideMap) -> dict[str, Any]:
    values = one.effect.values[np.isfinite(one.effect.values)]
    return {
        "side": one.side.name,
        "median_effect": float(np.median(values)) if values.size else math.nan,
        "lowest_effect": float(values.min()) if values.size else math.nan,
        "highest_effect": float(values.max()) if values.size else math.nan,
        "missing": float(1 - values.size / max(one.effect.size, 1)),
        "n_pairs": one.n_pairs,
        "note": one.note,
        "first_outside": None if one.first is None else dataclasses.asdict(one.first),
    }


def compare_runs(
    tree: xr.DataTree,
    data: xr.DataArray,
    sides: Sequence[Side],
    *,
    axis: str = "step",
    confidence: float = 0.95,
) -> Comparison:
    """Compare every side with the first.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_runs`; ``steps="union"`` keeps most rows.
    data : DataArray, dims (run, step, row)
        The quantity to compare, of the rows (layers) to compare.
    sides : sequence of Side
        Two at least, from `gradscope.derived.compare.groups`.
    axis : {"step", "epoch", "loss"}
        What is held equal between the runs; see `align_runs`.
    confidence : float, default 0.95
        Of intervals and bands. Bands hold it jointly over all cells of all maps (max-T within a
        map, Bonferroni over maps).

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        If there is one side only, an option is unknown, or the runs do not overlap.

    Notes
    -----
    Runs are paired by seed where both sides have the same seeds, once each, else in the order of
    their seeds: under the null hypothesis, that the setting changes nothing, the differences are
    symmetric either way. Flipping n pairs gives no p below 2^(1 − n): where that exceeds the level
    nothing is tested, and the note says how many pairs would do.
    """
    if len(sides) < 2:
        raise UsageError(
            "all runs are replicates of each other: they differ in their seed at most, so there "
            "is nothing to compare"
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
    level = (1 - confidence) / (len(sides) - 1)
    return Comparison(
        quantity=str(data.name),
        axis=axis,
        sides=tuple(sides),
        settings=settings_by_side(tree, sides),
        outcomes=outcomes(tree, sides, confidence=confidence),
        maps=tuple(_side_map(aligned, sides[0], side, level=level) for side in sides[1:]),
        is_ratio=is_ratio,
        confidence=confidence,
    )


def is_magnitude(data: xr.DataArray) -> bool:
    """Tell whether a quantity is compared by ratios: never negative, no share and no logarithm."""
    if schema.declaration(str(data.name), data.attrs).scale not in ("log", "auto"):
        return False
    finite = data.values[np.isfinite(data.values)]
    return bool(finite.size and finite.min() >= 0 and finite.max() > 0)


def _side_map(logs: xr.DataArray, first: Side, side: Side, *, level: float) -> SideMap:
    """Compare one side with the first, and test the whole map where there are enough pairs."""
    effect = _mean(logs, side) - _mean(logs, first)
    effect.attrs = dict(logs.attrs)
    if len(side.runs) == 1 or len(first.runs) == 1:
        alone = [s.name for s in (first, side) if len(s.runs) == 1]
        note = f"no seed band: one run only of {' and of '.join(alone)}"
        return SideMap(side=side, effect=effect, p_value=None, first=None, n_pairs=1, note=note)
    pairs, how = pair_runs(first, side)
    needed = 1 + math.ceil(math.log2(1 / level) - 1e-9)
    if len(pairs) < needed:
        note = (
            f"no seed band: {len(pairs)} pairs of runs give no p below "
            f"{2.0 ** (1 - len(pairs)):.3g}; {needed} would do"
        )
        return SideMap(
            side=side, effect=effect, p_value=None, first=None, n_pairs=len(pairs), note=note
        )
    ones, others = (logs.isel(run=[pair[i] for pair in pairs]) for i in (0, 1))
    differences = others.copy(data=others.values - ones.values)
    if not np.isfinite(differences.values).all(axis=0).any():
        note = "no seed band: no cell of the map is known in every run"
        return SideMap(
            side=side, effect=effect, p_value=None, first=None, n_pairs=len(pairs), note=note
        )
    p_value = max_t(differences, "run")["p_value"]
    return SideMap(
        side=side,
        effect=effect,
        p_value=p_value,
        n_pairs=len(pairs),
        note=how,
        first=_first_outside(effect, p_value, level=level),
    )


def _mean(logs: xr.DataArray, side: Side) -> xr.DataArray:
    """Average over the runs of a side that have a value."""
    part = logs.isel(run=list(side.runs))
    known = np.isfinite(part.values)
    total = np.where(known, part.values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    mean = np.divide(total, count, where=count > 0, out=np.full(total.shape, np.nan))
    kept = {name: c for name, c in logs.coords.items() if "run" not in c.dims}
    return xr.DataArray(mean, dims=logs.dims[1:], coords=kept, name=logs.name)


def _first_outside(effect: xr.DataArray, p_value: xr.DataArray, *, level: float) -> Outside | None:
    """Find the first place with any layer outside: on a loss axis, which falls, the highest."""
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

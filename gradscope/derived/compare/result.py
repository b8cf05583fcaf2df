"""Results of a comparison of runs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import xarray as xr

from gradscope.derived.compare.conditions import Condition
from gradscope.derived.compare.metrics import FinalMetric
from gradscope.derived.compare.text import comparison_text
from gradscope.stats.result import as_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outside:
    """First position at which a map differs by more than seeds do.

    Parameters
    ----------
    at : float
        First position on the axis with any layer outside the band.
    layer : str
        Layer with the smallest p-value there.
    row : int
        Index of its row.
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
class EffectMap:
    """One condition compared with the first, by layer and step.

    Parameters
    ----------
    condition : Condition
        The condition that is compared with the first.
    effect : DataArray, dims (axis, row)
        Natural logarithm of the ratio of geometric means over runs, or difference of means; NaN
        where a condition has no value (or, of a ratio, only zeros), infinite where a run is not
        finite.
    p_value : DataArray or None
        Max-T p-value of each cell; None if there are too few pairs of runs.
    first : Outside or None
        None if nothing is outside the band, or nothing was tested.
    n_pairs : int
        Pairs of runs that the test flips.
    note : str
        How runs were paired, or the reason for a missing band.
    """

    condition: Condition
    effect: xr.DataArray
    p_value: xr.DataArray | None
    first: Outside | None
    n_pairs: int
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Result of a comparison of runs.

    Parameters
    ----------
    quantity, axis : str
        Quantity that is compared, and axis of the comparison.
    conditions : tuple of Condition
        The first one is the reference.
    settings : dict
        Name of a setting that differs → its values in each condition.
    final_metrics : tuple of FinalMetric
        Of each condition, with intervals over runs.
    maps : tuple of EffectMap
        One for each condition but the first.
    is_ratio : bool
        Whether effects are log ratios, else differences.
    confidence : float
        Of all intervals, and of the bands over the whole family of maps.
    """

    quantity: str
    axis: str
    conditions: tuple[Condition, ...]
    settings: dict[str, tuple[str, ...]]
    final_metrics: tuple[FinalMetric, ...]
    maps: tuple[EffectMap, ...]
    is_ratio: bool
    confidence: float

    def __str__(self) -> str:
        """Return the comparison as text: conditions, settings, final metrics and maps."""
        return comparison_text(self)

    def as_dict(self) -> dict[str, Any]:
        """Return everything except the cells of the maps, for JSON."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found["conditions"] = [dataclasses.asdict(condition) for condition in self.conditions]
        found["final_metrics"] = [dataclasses.asdict(one) for one in self.final_metrics]
        found["maps"] = [_map_dict(one) for one in self.maps]
        result: dict[str, Any] = as_json(found)
        return result


def _map_dict(one: EffectMap) -> dict[str, Any]:
    values = one.effect.values[np.isfinite(one.effect.values)]
    return {
        "condition": one.condition.name,
        "median_effect": float(np.median(values)) if values.size else math.nan,
        "lowest_effect": float(values.min()) if values.size else math.nan,
        "highest_effect": float(values.max()) if values.size else math.nan,
        "missing": float(1 - values.size / max(one.effect.size, 1)),
        "n_pairs": one.n_pairs,
        "note": one.note,
        "first_outside": None if one.first is None else dataclasses.asdict(one.first),
    }

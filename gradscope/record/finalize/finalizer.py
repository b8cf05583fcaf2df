"""From a batch of raw rows on the host to the rows of every group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from gradscope import schema
from gradscope.record.finalize import variables
from gradscope.record.measure.reference.sums import GRADIENT_SUMS, PARAM_SUMS
from gradscope.record.model.params import ParamTable

_GRAD_SCALE_POWER = {
    "grad_sum": 1,
    "grad_abs_sum": 1,
    "grad_square_sum": 2,
    "grad_fourth_sum": 4,
    "grad_abs_max": 1,
    "grad_param_dot": 1,
}
_AFTER_STEP = slice(len(GRADIENT_SUMS), len(PARAM_SUMS))
_NONFINITE = GRADIENT_SUMS.index("grad_n_nonfinite")


@dataclass(frozen=True)
class RawRows:
    """Raw rows of one kind: the steps (row,) and the numbers (row, …), float64."""

    steps: np.ndarray
    values: np.ndarray

    def at(self, steps: Collection[int]) -> RawRows:
        """Keep the rows of some steps."""
        kept = np.isin(self.steps, list(steps))
        return RawRows(self.steps[kept], self.values[kept])


class Finisher:
    """Turns raw rows into variables, for one table of parameters.

    Parameters
    ----------
    table : ParamTable
    groups : collection of str
        Groups to make.
    grad_divisor : float
        What output gradients are divided by beside the loss scale: the number of ranks whose mean
        losses are averaged.
    """

    def __init__(
        self, table: ParamTable, groups: Collection[str], *, grad_divisor: float = 1.0
    ) -> None:
        self.table = table
        self._groups = frozenset(groups)
        self._divisor = grad_divisor

    def prepare(self, training: dict[str, np.ndarray], raw: Mapping[str, RawRows]) -> None:
        """Unscale gradients in place, blank what a skipped step never made, add total norms."""
        total = np.full(len(training["step"]), np.nan)
        if "params" in raw:
            params = raw["params"]
            at = _positions(training, params)
            scale = pick(training, "_grad_scale", at, default=1.0)
            for name, power in _GRAD_SCALE_POWER.items():
                params.values[:, :, PARAM_SUMS.index(name)] /= scale[:, None] ** power
            skipped = pick(training, "is_skipped", at, default=0.0) > 0
            params.values[skipped, :, _AFTER_STEP] = np.nan
            clip = pick(training, "clip_coefficient", at, default=1.0)
            total[at] = variables.total_grad_norm(params.values, clip)
        training["total_grad_norm"] = total

    def first_nonfinite(
        self, training: dict[str, np.ndarray], params: RawRows
    ) -> tuple[int, str] | None:
        """Find the first step with a non-finite gradient, and the layer nearest to the loss."""
        skipped = pick(training, "is_skipped", _positions(training, params), default=0.0) > 0
        bad = (params.values[:, :, _NONFINITE] > 0) & ~skipped[:, None]
        if not bad.any():
            return None
        row = int(bad.any(axis=1).argmax())
        param = self.table.params[int(np.flatnonzero(bad[row])[-1])]
        return int(params.steps[row]), param.layer.name if param.layer else param.name

    def training_rows(self, training: Mapping[str, np.ndarray]) -> variables.Rows:
        """Rows of ``/training``: whole numbers as such, the recorder's own names left out."""
        declared = schema.TRAINING.variables
        rows: variables.Rows = {}
        for name, values in training.items():
            is_float = name not in declared or declared[name].dtype.startswith("float")
            if name == "step":
                rows[name] = values.astype(np.int64)
            elif not name.startswith("_"):
                rows[name] = values if is_float else variables.as_counts(values)
        return rows

    def stat_rows(
        self, training: Mapping[str, np.ndarray], raw: Mapping[str, RawRows]
    ) -> dict[str, variables.Rows]:
        """Rows of every other group, by name, each with its ``step``."""
        made: dict[str, variables.Rows] = {}
        for kind, rows in raw.items():
            if len(rows.steps):
                for group, columns in self._finish(kind, rows, training).items():
                    if group in self._groups:
                        made[group] = {"step": rows.steps, **columns}
        return made

    def _finish(
        self, kind: str, rows: RawRows, training: Mapping[str, np.ndarray]
    ) -> dict[str, variables.Rows]:
        at, raw, numel = _positions(training, rows), rows.values, self.table.numel
        scale = pick(training, "loss_scale", at, default=1.0)
        grad_scale = pick(training, "_grad_scale", at, default=1.0)
        if kind == "params":
            beta1, beta2 = (self._spread(training, f"_beta{i}", at) for i in (1, 2))
            return {
                "gradients": variables.finish_gradients(raw, numel),
                "updates": variables.finish_updates(raw),
                "second_moments": variables.finish_second_moments(raw, numel, beta1, beta2),
            }
        if kind == "layers":
            return {"activations": variables.finish_activations(raw, scale * self._divisor)}
        if kind == "histograms":
            return {"histograms": variables.finish_histograms(raw, grad_scale)}
        if kind == "sketches":
            return {"sketches": {"grad_sketch": raw / grad_scale[:, None, None]}}
        clip = pick(training, "clip_coefficient", at, default=1.0)
        n, size = (pick(training, f, at, default=0) for f in ("n_microbatches", "batch_size"))
        return {"noise": variables.finish_noise(raw, n, size, scale, grad_scale * clip)}

    def _spread(self, training: Mapping[str, np.ndarray], name: str, at: np.ndarray) -> np.ndarray:
        """Spread what each parameter group has over its parameters (row, param)."""
        by_group = training[name][at]
        padded = np.concatenate([by_group, np.full((len(at), 1), np.nan)], axis=1)
        return padded[:, self.table.group]


def _positions(training: Mapping[str, np.ndarray], rows: RawRows) -> np.ndarray:
    return np.searchsorted(training["step"], rows.steps)


def pick(
    training: Mapping[str, np.ndarray], name: str, at: np.ndarray, *, default: float
) -> np.ndarray:
    """Values of a training variable at some positions, ``default`` where missing."""
    values = training[name][at] if name in training else np.full(len(at), default)
    return np.where(np.isnan(values), default, values)

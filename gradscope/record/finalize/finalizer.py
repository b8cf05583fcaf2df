"""From a batch of raw rows on the host to the rows of every group."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from gradscope import schema
from gradscope.record.finalize import variables
from gradscope.record.measure.reference.sums import GRADIENT_SUMS, PARAM_SUMS
from gradscope.record.model.params import ParamTable
from gradscope.record.rows.facts import StepFacts
from gradscope.record.rows.kind import RawRows, RowKind, Variables
from gradscope.record.rows.scalars import Values

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


class Finalizer:
    """Turns raw rows into variables, for one table of parameters.

    Parameters
    ----------
    table : ParamTable
    kinds : collection of RowKind
    groups : collection of str
        Groups to make.
    """

    def __init__(
        self, table: ParamTable, kinds: Collection[RowKind], groups: Collection[str]
    ) -> None:
        self.table = table
        self._kinds = {kind.name: kind for kind in kinds}
        self._groups = frozenset(groups)

    def prepare(self, values: Values, facts: StepFacts, raw: Mapping[str, RawRows]) -> None:
        """Unscale gradients in place, blank what a skipped step never made, add total norms."""
        total = np.full(len(facts.step), np.nan)
        if "params" in raw:
            params = raw["params"]
            own = facts.at(params.steps)
            for name, power in _GRAD_SCALE_POWER.items():
                params.values[:, :, PARAM_SUMS.index(name)] /= own.unscaling[:, None] ** power
            params.values[own.skipped, :, _AFTER_STEP] = np.nan
            at = np.searchsorted(facts.step, params.steps)
            total[at] = variables.total_grad_norm(params.values, self.table.numel, own.clip_factor)
        values["total_grad_norm"] = total

    def first_nonfinite(self, facts: StepFacts, params: RawRows) -> tuple[int, str] | None:
        """Find the first step with a non-finite gradient, and the layer nearest to the loss."""
        skipped = facts.at(params.steps).skipped
        bad = (params.values[:, :, _NONFINITE] > 0) & ~skipped[:, None]
        if not bad.any():
            return None
        row = int(bad.any(axis=1).argmax())
        param = self.table.params[int(np.flatnonzero(bad[row])[-1])]
        return int(params.steps[row]), param.layer.label if param.layer else param.name

    def training_rows(self, values: Values, facts: StepFacts) -> Variables:
        """Rows of ``/training``: whole numbers as such."""
        declared = schema.TRAINING.variables
        rows: Variables = {"step": facts.step}
        for name, column in values.items():
            is_float = name not in declared or declared[name].dtype.startswith("float")
            rows[name] = column if is_float else variables.as_counts(column)
        return rows

    def stat_rows(self, facts: StepFacts, raw: Mapping[str, RawRows]) -> dict[str, Variables]:
        """Rows of every other group, by name, each with its ``step``."""
        made: dict[str, Variables] = {}
        for name, rows in raw.items():
            if len(rows.steps):
                finished = self._kinds[name].finalize(rows.values, facts.at(rows.steps))
                for group, columns in finished.items():
                    if group in self._groups:
                        made.setdefault(group, {"step": rows.steps}).update(columns)
        return made

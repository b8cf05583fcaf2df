"""The row kinds of one recording: raw sums, how they combine over ranks, what they become."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gradscope import schema
from gradscope.record.finalize import variables
from gradscope.record.measure.reference.quantities import group_of
from gradscope.record.measure.reference.sums import (
    LAYER_SUMS,
    MAXIMA,
    MOMENT_LOG2_COUNTS,
    PARAM_SUMS,
)
from gradscope.record.model.params import ParamTable
from gradscope.record.rows.facts import StepFacts, or_else
from gradscope.record.rows.kind import MAX, SUM, Reduction, RowKind, Variables

Made = dict[str, Variables]


def row_kinds(
    table: ParamTable,
    groups: Collection[str],
    *,
    n_ranks: int = 1,
    histogram_every: int = 10,
    functions: Collection[str] = (),
) -> tuple[RowKind, ...]:
    """Return the kinds of rows that the recorded groups need.

    Parameters
    ----------
    table : ParamTable
    groups : collection of str
        Names of the recorded groups.
    n_ranks : int
        Ranks whose mean losses are averaged: output gradients are divided by their number.
    histogram_every : int
        Recorded rounds from one histogram to the next.
    functions : collection of str
        Names of the quantities that functions give, the user's own among them.
    """
    kinds = [_params(table)]
    if "activations" in groups:
        kinds.append(_layers(table, n_ranks))
    if "histograms" in groups:
        kinds.append(_histograms(table, histogram_every))
    if "sketches" in groups:
        kinds.append(_sketches(table))
    if "noise" in groups:
        kinds.append(_noise(table))
    if functions:
        kinds.append(_functions(table, tuple(functions)))
    return tuple(kinds)


def _rule(names: tuple[str, ...]) -> np.ndarray:
    return np.array([MAX if name in MAXIMA or name == "state_step" else SUM for name in names])


def _params(table: ParamTable) -> RowKind:
    def finalize(raw: np.ndarray, facts: StepFacts) -> Made:
        beta1, beta2 = (_spread(beta, table) for beta in (facts.bias_beta1, facts.bias_beta2))
        return {
            "gradients": variables.finish_gradients(raw, table.numel),
            "updates": variables.finish_updates(raw, table.numel),
            "second_moments": variables.finish_second_moments(raw, table.numel, beta1, beta2),
        }

    axes: Mapping[str, Mapping[str, Any]] = {
        "param": table.param_axis(),
        "param_group": {"param_group": range(table.n_groups)},
    }
    shape = (len(table.params), len(PARAM_SUMS))
    return RowKind("params", shape, finalize, Reduction(_rule(PARAM_SUMS)), axes)


def _spread(by_group: np.ndarray, table: ParamTable) -> np.ndarray:
    """Spread what each parameter group has over its parameters (row, param)."""
    padded = np.concatenate([by_group, np.full((len(by_group), 1), np.nan)], axis=1)
    return padded[:, table.group]


def _layers(table: ParamTable, n_ranks: int) -> RowKind:
    def finalize(raw: np.ndarray, facts: StepFacts) -> Made:
        scale = or_else(facts.loss_scale, 1.0) * n_ranks
        return {"activations": variables.finish_activations(raw, scale)}

    shape = (len(table.layers), len(LAYER_SUMS))
    reduce = Reduction(_rule(LAYER_SUMS), is_local=True)
    return RowKind("layers", shape, finalize, reduce, {"layer": table.layer_axis()})


def _histograms(table: ParamTable, every: int) -> RowKind:
    def finalize(raw: np.ndarray, facts: StepFacts) -> Made:
        return {"histograms": variables.finish_histograms(raw, facts.unscaling)}

    axes = {
        name: {name: range(first, last + 1)}
        for name, (first, last) in (
            ("grad_bin", schema.GRAD_BIN_RANGE),
            ("moment_bin", schema.MOMENT_BIN_RANGE),
        )
    }
    shape = (len(table.params), MOMENT_LOG2_COUNTS.stop)
    return RowKind("histograms", shape, finalize, axes=axes, every=every)


def _sketches(table: ParamTable) -> RowKind:
    def finalize(raw: np.ndarray, facts: StepFacts) -> Made:
        return {"sketches": {"grad_sketch": raw / facts.unscaling[:, None, None]}}

    axes = {"sketch": {"sketch": range(schema.N_SKETCHES)}}
    return RowKind("sketches", (len(table.params), schema.N_SKETCHES), finalize, axes=axes)


def _noise(table: ParamTable) -> RowKind:
    def finalize(raw: np.ndarray, facts: StepFacts) -> Made:
        scale = or_else(facts.loss_scale, 1.0)
        factor = facts.unscaling * facts.clip_factor
        n, size = or_else(facts.noise_parts, 0), or_else(facts.batch_size, 0)
        return {"noise": variables.finish_noise(raw, n, size, scale, factor)}

    def settle(values: np.ndarray, n_ranks: int, sharded: list[int]) -> None:
        values[..., 0] /= n_ranks**2  # what a micro-batch adds to the mean over ranks
        values[:, sharded, 0] = np.nan  # sharded gradients come reduced

    reduce = Reduction(SUM, is_local=True, columns=slice(0, 1), settle=settle)
    return RowKind("noise", (len(table.params), 2), finalize, reduce)


def _functions(table: ParamTable, names: tuple[str, ...]) -> RowKind:
    def finalize(raw: np.ndarray, _facts: StepFacts) -> Made:
        made: Made = {}
        for column, name in enumerate(names):
            made.setdefault(group_of(name), {})[name] = raw[..., column]
        return made

    def settle(values: np.ndarray, _n_ranks: int, sharded: list[int]) -> None:
        values[:, sharded] = np.nan  # how parts of a tensor combine is the user's secret

    reduce = Reduction(SUM, settle=settle)
    return RowKind("functions", (len(table.params), len(names)), finalize, reduce)

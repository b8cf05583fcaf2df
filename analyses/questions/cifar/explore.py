"""The exploratory numbers of the CIFAR question: effects with intervals, without a verdict word."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyses.measures.alpha.cross_fit import gain_over
from analyses.measures.seeds import best_column, explore, slopes_over_columns, wide
from analyses.questions.cifar.explore_map import map_explored
from analyses.questions.cifar.measure import ALPHA10, ALPHA100, DEPTH, LABELS, TUNED
from analyses.study.question import Explored, Tables

CLAIMED = (-0.3, 0.1)
"""Range of alpha in which the paper finds the optimum."""
NAMES = {ALPHA10: "CIFAR-10", ALPHA100: "CIFAR-100"}
LATE = "last 10 %"
STEADINESS = {
    "coherence": ("coherence of gradients", "1 per unit of alpha"),
    "roughness": ("roughness of gradients", "nat per unit of alpha"),
}


def explored(tables: Tables) -> Iterator[Explored]:
    """Give every number that was looked at."""
    found = [
        *(one for spec in NAMES for one in _curve(tables, spec)),
        *_moved(tables),
        *(one for spec in NAMES for one in _gradients(tables, spec)),
        *_depth(tables),
        *map_explored(tables),
        *_tuned(tables),
        *_labels(tables),
    ]
    yield from (one for one in found if one is not None)


def curve(tables: Tables, spec: str, arm: str, values: str = "accuracy") -> pd.DataFrame:
    """Return a value by seed (rows) and alpha (columns); alpha = 0 belongs to both arms.

    Only seeds that have every alpha are there.
    """
    own = _runs(tables, spec, arm, values)
    return wide(own, "alpha", values) if len(own) else pd.DataFrame()


def _runs(tables: Tables, spec: str, arm: str, values: str) -> pd.DataFrame:
    """Return the rows of an arm, with those of alpha = 0; none where the value was not measured."""
    table = tables.get("outcomes", pd.DataFrame())
    if not len(table) or values not in table:
        return pd.DataFrame()
    return table[(table["spec"] == spec) & ((table["arm"] == arm) | (table["alpha"] == 0))]


def _curve(tables: Tables, spec: str) -> Iterator[Explored | None]:
    """X1, X2: the curve at one learning rate and what is left of it at one step size."""
    name, spread = NAMES[spec], {}
    for arm in ("fixed", "grafted"):
        table = curve(tables, spec, arm)
        if not len(table) or 0.0 not in table.columns or table.shape[1] < 3:
            continue
        key = "X1" if arm == "fixed" else "X2"
        best = best_column(table)
        inside = int(((best >= CLAIMED[0]) & (best <= CLAIMED[1])).sum())
        yield explore(
            key,
            f"alpha with the highest test accuracy, {arm} arm, {name}",
            best,
            "alpha",
            f"{inside} of {len(best)} seeds within [{CLAIMED[0]:g}, {CLAIMED[1]:g}]",
        )
        for alpha in table.columns.drop(0.0):
            yield explore(
                key,
                f"test accuracy at alpha {alpha:g} less that at 0, {arm} arm, {name}",
                table[alpha] - table[0.0],
                "accuracy",
            )
        yield explore(
            key,
            f"test accuracy over alpha, over the claimed range, {arm} arm, {name}",
            slopes_over_columns(_claimed(table)),
            "accuracy per unit of alpha",
        )
        spread[arm] = _spread(table)
    yield _step_change(tables, spec)
    if len(spread) == 2:
        both = spread["fixed"].index.intersection(spread["grafted"].index)
        for arm, values in spread.items():
            yield explore(
                "X2",
                f"RMS distance of test accuracy from that at alpha = 0 over the claimed range, "
                f"{arm} arm, {name}",
                values.loc[both],
                "accuracy",
                "includes the noise of the runs",
            )


def _step_change(tables: Tables, spec: str) -> Explored | None:
    """X1: by what factor one learning rate shrinks the step at the lowest alpha."""
    own = _runs(tables, spec, "fixed", "step")
    if not len(own) or not (own["alpha"] == 0).any():
        return None
    lowest = float(own["alpha"].min())
    # A run that diverged at another alpha has no step, and is no reason to leave out its seed.
    table = wide(own[own["alpha"].isin([lowest, 0.0])], "alpha", "step")
    if not len(table):
        return None
    text = f"ln measured step at alpha {lowest:g} less that at 0, fixed arm, {NAMES[spec]}"
    return explore("X1", text, np.log(table[lowest] / table[0.0]), "nat")


def _spread(table: pd.DataFrame) -> pd.Series:
    """Root mean square difference to alpha = 0, by seed, over the claimed range."""
    claimed = _claimed(table).drop(columns=0.0)
    return np.sqrt((claimed.sub(table[0.0], axis=0) ** 2).mean(axis=1))


def _moved(tables: Tables) -> Iterator[Explored | None]:
    """X3: the best alpha on CIFAR-100 less that on CIFAR-10, seed by seed."""
    for arm in ("fixed", "grafted"):
        small, large = (curve(tables, spec, arm) for spec in (ALPHA10, ALPHA100))
        seeds = small.index.intersection(large.index)
        if len(seeds):
            yield explore(
                "X3",
                f"alpha with the highest test accuracy, CIFAR-100 less CIFAR-10, {arm} arm",
                best_column(large.loc[seeds]) - best_column(small.loc[seeds]),
                "alpha",
                "in steps of the grid, 0.05 within the claimed range",
            )


def _gradients(tables: Tables, spec: str) -> Iterator[Explored | None]:
    """X4: depth slopes late in training, roughness and coherence over the claimed range."""
    name = NAMES[spec]
    for arm in ("fixed", "grafted"):
        for quantity in ("output_grad_rms", "grad_rms"):
            table = _late_slopes(tables, spec, arm, quantity)
            if len(table) and table.shape[1] >= 3:
                yield explore(
                    "X4",
                    f"late depth slope of ln {quantity} over alpha, {arm} arm, {name}",
                    slopes_over_columns(table),
                    "nat a layer per unit of alpha",
                    f"at alpha 0: {table[0.0].mean():+.3f} nat a layer" if 0.0 in table else "",
                )
        for quantity, (words, unit) in STEADINESS.items():
            own = _runs(tables, spec, arm, quantity)
            # Those beyond the range, some of which diverge, leave out no seed.
            own = own[own["alpha"].between(*CLAIMED)] if len(own) else own
            table = wide(own, "alpha", quantity) if len(own) else own
            if len(table) and table.shape[1] >= 3:
                yield explore(
                    "X4",
                    f"{words} over alpha, {arm} arm, {name}",
                    slopes_over_columns(table),
                    unit,
                )


def _claimed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the claimed range: beyond it, some runs die."""
    if not len(table):
        return table
    return table.loc[:, (table.columns >= CLAIMED[0]) & (table.columns <= CLAIMED[1])]


def _late_slopes(tables: Tables, spec: str, arm: str, quantity: str) -> pd.DataFrame:
    table = tables.get("slopes", pd.DataFrame())
    if not len(table):
        return pd.DataFrame()
    own = table[
        (table["spec"] == spec)
        & ((table["arm"] == arm) | (table["alpha"] == 0))
        & (table["phase"] == LATE)
        & (table["quantity"] == quantity)
        & (table["alpha"] >= CLAIMED[0])
        & (table["alpha"] <= CLAIMED[1])
    ]
    return wide(own, "alpha", "slope") if len(own) else pd.DataFrame()


def _depth(tables: Tables) -> Iterator[Explored | None]:
    """X1, X2 in deeper networks: accuracy at the alphas that were run, less that at 0."""
    table = tables.get("outcomes", pd.DataFrame())
    own = table[table["spec"] == DEPTH] if len(table) else table
    for model, rows in own.groupby("model") if len(own) else ():
        for key, arm in (("X1", "fixed"), ("X2", "grafted")):
            accuracy = wide(rows[(rows["arm"] == arm) | (rows["alpha"] == 0)], "alpha", "accuracy")
            if 0.0 not in accuracy.columns:
                continue
            for alpha in accuracy.columns.drop(0.0):
                words = f"test accuracy at alpha {alpha:g} less that at 0, {arm} arm, {model}"
                yield explore(
                    key, f"{words}, CIFAR-10", accuracy[alpha] - accuracy[0.0], "accuracy"
                )


def _tuned(tables: Tables) -> Iterator[Explored | None]:
    """X6: the best alpha other than 0 against alpha = 0, each tuned."""
    table = curve(tables, TUNED, "tuned")
    if len(table) >= 2 and 0.0 in table.columns:
        yield explore(
            "X6",
            "test accuracy of the best alpha other than 0 less that of alpha = 0, tuned, chosen by "
            "the other seeds",
            gain_over(table, 0.0),
            "accuracy",
        )


def _labels(tables: Tables) -> Iterator[Explored | None]:
    """X7: late depth slopes at alpha = 0, they and accuracy over alpha, by labels of the images."""
    table = tables.get("slopes", pd.DataFrame())
    if len(table):
        is_own = (table["spec"] == LABELS) & (table["phase"] == LATE)
        late = table[is_own & (table["quantity"] == "output_grad_rms")]
        own = late[late["alpha"] == 0]
        slopes = wide(own, "labels", "slope") if len(own) else pd.DataFrame()
        for labels in [name for name in ("coarse", "random") if name in slopes.columns]:
            if "fine" in slopes.columns:
                yield explore(
                    "X7",
                    f"late depth slope of ln output_grad_rms, {labels} less fine labels, alpha 0",
                    slopes[labels] - slopes["fine"],
                    "nat a layer",
                )
        words = "late depth slope of ln output_grad_rms over alpha"
        yield from _over_alpha(late, "slope", words, "nat a layer per unit of alpha")
    outcomes = tables.get("outcomes", pd.DataFrame())
    if len(outcomes):
        own = outcomes[outcomes["spec"] == LABELS]
        words = "test accuracy over alpha at one step size"
        yield from _over_alpha(own, "accuracy", words, "accuracy per unit of alpha")


def _over_alpha(
    rows: pd.DataFrame, values: str, words: str, unit: str
) -> Iterator[Explored | None]:
    """Slopes of a value over alpha, one number for each kind of labels."""
    for labels, own in rows.groupby("labels"):
        table = wide(own, "alpha", values)
        if len(table) and table.shape[1] >= 2:
            yield explore("X7", f"{words}, {labels} labels", slopes_over_columns(table), unit)

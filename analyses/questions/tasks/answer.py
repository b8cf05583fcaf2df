"""What the measured table says of other tasks: exploratory numbers only."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analyses.measures.seeds import best_column, explore, slopes_over_columns, wide
from analyses.questions.accumulation.intervals import means
from analyses.study.question import Answer, Explored, Tables

ARMS = ("fixed", "grafted")
EVEN, ZIPF = 0.0, 1.0
QUANTITIES = ("test_loss", "score", "step")


def answer(tables: Tables, scale: str) -> Answer:
    """Conclude from the measured table.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `analyses.questions.tasks.measure.measure` gives them.
    scale : str

    Returns
    -------
    Answer
        Without evidence on any claim.
    """
    outcomes = tables["outcomes"]
    labels = ["task", "zipf", "arm", "alpha"]
    found = [
        one
        for task in dict.fromkeys(outcomes["task"])
        for arm in ARMS
        for one in (*_bests(outcomes, task, arm), *_effects(outcomes, task, arm))
    ]
    parts = [means(outcomes, labels, name).assign(quantity=name) for name in QUANTITIES]
    return Answer(
        question="tasks",
        scale=scale,
        evidence={},
        explored=tuple(one for one in found if one is not None),
        tables={
            "outcome_means": pd.concat(parts, ignore_index=True),
            "effect_means": _effect_means(outcomes),
        },
        notes=tuple(_notes(outcomes)),
    )


def curve(
    outcomes: pd.DataFrame, task: str, arm: str, exponent: float, values: str = "test_loss"
) -> pd.DataFrame:
    """Return a value by seed (rows) and alpha (columns); alpha = 0 belongs to both arms."""
    is_own = (outcomes["task"] == task) & (outcomes["zipf"] == exponent)
    own = outcomes[is_own & ((outcomes["arm"] == arm) | (outcomes["alpha"] == 0))]
    return wide(own, "alpha", values) if len(own) else pd.DataFrame()


def effects(outcomes: pd.DataFrame, task: str, arm: str, exponent: float) -> pd.DataFrame:
    """Return the test loss of each alpha less that of alpha = 0, seed by seed."""
    table = curve(outcomes, task, arm, exponent)
    return table.drop(columns=0.0).sub(table[0.0], axis=0) if 0.0 in table else pd.DataFrame()


def _bests(outcomes: pd.DataFrame, task: str, arm: str) -> Iterator[Explored | None]:
    """K1: alpha of the lowest test loss, by exponent and moved between them."""
    best = {}
    for exponent in (EVEN, ZIPF):
        table = curve(outcomes, task, arm, exponent)
        if not len(table):
            return
        best[exponent] = best_column(-table)
        ends = int(best[exponent].isin([table.columns.min(), table.columns.max()]).sum())
        yield explore(
            "K1",
            f"alpha of the lowest test loss, {task}, exponent {exponent:g}, {arm} arm",
            best[exponent],
            "alpha",
            f"{ends} of {len(table)} seeds at an end of the range",
        )
    yield explore(
        "K1",
        f"alpha of the lowest test loss, {task}, exponent 1 less 0, {arm} arm",
        best[ZIPF] - best[EVEN],
        "alpha",
        "in steps of the grid",
    )


def _effects(outcomes: pd.DataFrame, task: str, arm: str) -> Iterator[Explored | None]:
    """K2, K3: effects of each alpha by exponent, and their difference."""
    both = {exponent: effects(outcomes, task, arm, exponent) for exponent in (EVEN, ZIPF)}
    if not all(len(table) for table in both.values()):
        return
    for alpha in both[EVEN].columns:
        for exponent, table in both.items():
            text = f"test loss at alpha {alpha:g} less that at 0, {task}, exponent {exponent:g}, "
            yield explore("K2", f"{text}{arm} arm", table[alpha], "nat")
        text = f"effect of alpha {alpha:g} on the test loss, {task}, exponent 1 less 0, {arm} arm"
        yield explore("K2", text, both[ZIPF][alpha] - both[EVEN][alpha], "nat")
    slopes = {}
    for exponent in (EVEN, ZIPF):
        table = curve(outcomes, task, arm, exponent)
        slopes[exponent] = pd.Series(slopes_over_columns(table), table.index)
        text = f"slope of the test loss over alpha, {task}, exponent {exponent:g}, {arm} arm"
        yield explore("K2", text, slopes[exponent], "nat per unit of alpha")
    text = f"slope of the test loss over alpha, {task}, exponent 1 less 0, {arm} arm"
    yield explore("K2", text, slopes[ZIPF] - slopes[EVEN], "nat per unit of alpha")


def _effect_means(outcomes: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for task in dict.fromkeys(outcomes["task"]):
        for arm in ARMS:
            both = [effects(outcomes, task, arm, exponent) for exponent in (EVEN, ZIPF)]
            if not all(len(table) for table in both):
                continue
            for alpha, values in (both[1] - both[0]).items():
                rows += [
                    {"task": task, "arm": arm, "alpha": alpha, "value": value}
                    for value in values.dropna()
                ]
    return means(pd.DataFrame(rows), ["task", "arm", "alpha"], "value") if rows else pd.DataFrame()


def _notes(outcomes: pd.DataFrame) -> Iterator[str]:
    for (task, exponent), own in outcomes.groupby(["task", "zipf"], sort=False):
        lost = own[own["is_diverged"].astype(bool)]
        where = sorted({f"{r.arm} {r.alpha:g}" for r in lost.itertuples()})
        named = f" ({', '.join(where)})" if where else ""
        zero = own[own["alpha"] == 0]
        yield (
            f"{task}, exponent {exponent:g}: {len(own)} runs, {own['seed'].nunique()} seeds, lr "
            f"{own['lr'].iloc[0]:g}; at alpha 0 loss {zero['first_loss'].mean():.2f} fell to "
            f"{zero['test_loss'].mean():.2f}, score {zero['score'].mean():.3f}; "
            f"{len(lost)} diverged{named}"
        )

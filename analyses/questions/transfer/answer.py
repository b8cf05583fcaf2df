"""What the measured tables say of architecture transfer: exploratory numbers only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analyses.measures.seeds import best_column, explore, slopes_over_columns, wide
from analyses.questions.accumulation.intervals import means
from analyses.questions.transfer.measure import LATE, START
from analyses.study.question import Answer, Explored, Tables

ARMS = ("fixed", "grafted")
REFERENCE = "vgg13"
NO_SKIPS, SKIPS = "resnet14 without skips", "resnet14"
OUTCOMES = {"accuracy": "test accuracy", "ln_loss": "ln training loss"}
LEARNED = {"mini": 0.3}
"""Accuracy at alpha = 0 below which a network has not learned, and its curve says nothing."""
LEARNED_ELSEWHERE = 0.5


def answer(tables: Tables, scale: str) -> Answer:
    """Conclude from the measured tables.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `analyses.questions.transfer.measure.measure` gives them.
    scale : str

    Returns
    -------
    Answer
        Without evidence on any claim.
    """
    outcomes, slopes = tables["outcomes"], tables["slopes"]
    found = [*_orders(outcomes), *_bests(outcomes), *_spreads(outcomes), *_depth(slopes)]
    labels = ["net", "arm", "alpha"]
    parts = [means(outcomes, labels, name).assign(quantity=name) for name in (*OUTCOMES, "step")]
    return Answer(
        question="architecture_transfer",
        scale=scale,
        evidence={},
        explored=tuple(one for one in found if one is not None),
        tables={
            "outcome_means": pd.concat(parts, ignore_index=True),
            "slope_means": means(slopes, [*labels, "phase"], "slope"),
            "order_means": _order_means(outcomes),
        },
        notes=tuple(_notes(outcomes, LEARNED.get(scale, LEARNED_ELSEWHERE))),
    )


def curve(outcomes: pd.DataFrame, net: str, arm: str, values: str = "accuracy") -> pd.DataFrame:
    """Return a value by seed (rows) and alpha (columns); alpha = 0 belongs to both arms."""
    is_own = (outcomes["net"] == net) & ((outcomes["arm"] == arm) | (outcomes["alpha"] == 0))
    return wide(outcomes[is_own], "alpha", values)


def order_agreement(own: pd.DataFrame, reference: pd.DataFrame) -> pd.Series:
    """Correlate the ranks of each seed's curve with the mean of the reference's other seeds.

    Returns
    -------
    Series
        Spearman's rho by seed; nan where a curve is constant.
    """
    seeds = [seed for seed in own.index if len(reference.index.difference([seed]))]
    found = {}
    for seed in seeds:
        others = reference.loc[reference.index.difference([seed])].mean()
        has_order = own.loc[seed].nunique() > 1 and others.nunique() > 1
        found[seed] = (
            float(spearmanr(own.loc[seed], others).statistic) if has_order else float("nan")
        )
    return pd.Series(found, dtype=float)


def _nets(outcomes: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(outcomes["net"]))


def _orders(outcomes: pd.DataFrame) -> Iterator[Explored | None]:
    """T1: rank correlation with VGG13's curve, and with the architecture's own."""
    for arm in ARMS:
        for name, words in OUTCOMES.items():
            reference = curve(outcomes, REFERENCE, arm, name)
            for net in _nets(outcomes):
                own = curve(outcomes, net, arm, name)
                ceiling = order_agreement(own, own)
                text = f"rank correlation over alpha, {words}, {arm} arm, {net} with "
                yield explore("T1", f"{text}itself (other seeds)", ceiling, "rho", "the ceiling")
                if net != REFERENCE:
                    agreed = order_agreement(own, reference)
                    yield explore("T1", f"{text}{REFERENCE} (other seeds)", agreed, "rho")


def _order_means(outcomes: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for arm in ARMS:
        reference = curve(outcomes, REFERENCE, arm)
        for net in _nets(outcomes):
            own = curve(outcomes, net, arm)
            for other, with_ in ((own, "itself"), (reference, REFERENCE)):
                rows += [
                    {"net": net, "arm": arm, "with": with_, "rho": rho}
                    for rho in order_agreement(own, other)
                ]
    table = pd.DataFrame(rows, columns=["net", "arm", "with", "rho"])
    return means(table, ["net", "arm", "with"], "rho")


def _bests(outcomes: pd.DataFrame) -> Iterator[Explored | None]:
    """T2: best alpha of each architecture, and its distance from that of VGG13."""
    for arm in ARMS:
        reference = best_column(curve(outcomes, REFERENCE, arm))
        for net in _nets(outcomes):
            best = best_column(curve(outcomes, net, arm))
            text = f"alpha with the highest test accuracy, {arm} arm, {net}"
            note = f"of the seeds: {', '.join(f'{alpha:g}' for alpha in best)}"
            if net == REFERENCE:
                yield explore("T2", text, best, "alpha", note)
            else:
                yield explore("T2", f"{text} less {REFERENCE}", best - reference, "alpha", note)


def spread(table: pd.DataFrame) -> pd.Series:
    """Return each seed's root mean square distance from alpha = 0."""
    away = table.drop(columns=0.0).sub(table[0.0], axis=0)
    return np.sqrt((away**2).mean(axis=1))


def _spreads(outcomes: pd.DataFrame) -> Iterator[Explored | None]:
    """T3: how far curves are from flat at one learning rate and at one step size."""
    for net in _nets(outcomes):
        both = {arm: curve(outcomes, net, arm) for arm in ARMS}
        far = {arm: spread(table) for arm, table in both.items() if len(table)}
        for arm, values in far.items():
            text = f"RMS distance of test accuracy from that at alpha = 0, {arm} arm, {net}"
            yield explore("T3", text, values, "accuracy", "includes the noise of the runs")
        if len(far) == 2:
            text = f"RMS distance from alpha = 0, grafted less fixed arm, {net}"
            yield explore("T3", text, far["grafted"] - far["fixed"], "accuracy")
        for arm, table in both.items():
            for alpha in table.columns.drop(0.0):
                text = f"test accuracy at alpha {alpha:g} less that at 0, {arm} arm, {net}"
                yield explore("T3", text, table[alpha] - table[0.0], "accuracy")


def _depth(slopes: pd.DataFrame) -> Iterator[Explored | None]:
    """T4: depth slopes at the start and late, what skips and alpha change."""
    at_zero = slopes[slopes["alpha"] == 0]
    unit = "nat a block"
    for phase in (START, LATE):
        by_net = wide(at_zero[at_zero["phase"] == phase], "net", "slope")
        for net in by_net.columns:
            text = f"depth slope of ln output gradient, {phase}, alpha 0, {net}"
            yield explore("T4", text, by_net[net], unit)
        if {SKIPS, NO_SKIPS} <= set(by_net.columns):
            text = f"depth slope of ln output gradient, {phase}, alpha 0, {NO_SKIPS} less {SKIPS}"
            yield explore("T4", text, by_net[NO_SKIPS] - by_net[SKIPS], unit)
    late = slopes[slopes["phase"] == LATE]
    for net in dict.fromkeys(late["net"]):
        is_own = (late["net"] == net) & ((late["arm"] == "grafted") | (late["alpha"] == 0))
        table = wide(late[is_own], "alpha", "slope")
        if len(table) and table.shape[1] >= 3:
            text = f"late depth slope of ln output gradient over alpha, grafted arm, {net}"
            yield explore("T4", text, slopes_over_columns(table), f"{unit} per unit of alpha")


def _notes(outcomes: pd.DataFrame, learned: float) -> Iterator[str]:
    for net, own in outcomes.groupby("net", sort=False):
        lost = own[own["is_diverged"].astype(bool)]
        where = sorted({f"{r.arm} {r.alpha:g}" for r in lost.itertuples()})
        named = f" ({', '.join(where)})" if where else ""
        zero = own.loc[own["alpha"] == 0, "accuracy"].mean()
        valid = "" if zero >= learned else "; invalid: it has not learned at alpha = 0"
        yield (
            f"{net}: {len(own)} runs, {own['seed'].nunique()} seeds, lr {own['lr'].iloc[0]:g}, "
            f"accuracy at alpha 0 {zero:.3f}; {len(lost)} diverged{named}{valid}"
        )

"""What the measured tables say of balance: evidence on P3 and P4, exploratory numbers, breaks."""

from __future__ import annotations

import pandas as pd

from analyses.claims.claim import Evidence
from analyses.measures.alpha.tuned_arm import tuning_breaks
from analyses.measures.seeds import wide
from analyses.questions.accumulation.intervals import means
from analyses.questions.balance.explore import explored, factor_effects, map_numbers
from analyses.study.question import Answer, Tables

REFERENCE = {"cifar10": 0.940, "cifar100": 0.740}
"""Accuracy that alpha = 0 must reach with the full recipe; below it, no verdict about alpha."""
BASELINE = "the alpha = 0 baseline misses its reference accuracy"
OWN, TWIN = ("none", "zero"), ("global", "alpha")
"""Grafts of alpha as it is, and of alpha = 0's direction with alpha's global step size."""


def answer(tables: Tables, scale: str) -> Answer:
    """Conclude from the measured tables.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `analyses.questions.balance.measure.measure` gives them; absent ones were not run.
    scale : str

    Returns
    -------
    Answer
        Evidence on P3 where grafted twins were run, on P4 where the tuned arm was.
    """
    evidence = {"P3": twins(tables, scale), "P4": tuned(tables, scale)}
    return Answer(
        question="balance",
        scale=scale,
        evidence={key: given for key, given in evidence.items() if given is not None},
        explored=tuple(explored(tables)),
        tables=_figure_tables(tables),
        notes=tuple(_notes(tables)),
    )


def twins(tables: Tables, scale: str) -> Evidence | None:
    """P3: accuracy at alpha less that of its twin, one column an alpha.

    The twin takes, at every step, the direction of alpha = 0 with the global size that alpha's
    step would have there.
    """
    table = tables.get("grafted", pd.DataFrame())
    if not len(table):
        return None
    rows = [_grafted(table, *graft) for graft in (OWN, TWIN)]
    own, twin = (wide(part, "alpha", "accuracy") for part in rows)
    alphas = [alpha for alpha in own.columns if alpha in twin.columns and alpha != 0]
    difference = (own[alphas] - twin[alphas]).dropna()
    if not difference.size:
        return None
    return Evidence(
        values=difference.to_numpy(),
        components=tuple(f"alpha {alpha:g}" for alpha in alphas),
        scale=scale,
        arms=("fixed", "grafted"),
        breaks_fired=tuple(_missed_baseline(tables, scale)),
        n_diverged=sum(int(part["is_diverged"].sum()) for part in rows),
    )


def tuned(tables: Tables, scale: str) -> Evidence | None:
    """P4: tuned accuracy at each alpha less that at alpha = 0."""
    table = tables.get("tuned", pd.DataFrame())
    accuracy = wide(table, "alpha", "accuracy") if len(table) else pd.DataFrame()
    if 0.0 not in accuracy.columns or not len(accuracy) or accuracy.shape[1] < 2:
        return None
    others = accuracy.drop(columns=0.0)
    trials = tables.get("trials", pd.DataFrame())
    return Evidence(
        values=others.sub(accuracy[0.0], axis=0).to_numpy(),
        components=tuple(f"alpha {alpha:g}" for alpha in others.columns),
        scale=scale,
        arms=("tuned",),
        breaks_fired=(*_missed_baseline(tables, scale), *tuning_breaks(trials, ["alpha"])),
        n_diverged=int(table["is_diverged"].sum()),
    )


def _grafted(table: pd.DataFrame, graft: str, graft_from: str) -> pd.DataFrame:
    is_asked = table["graft"] == graft
    if graft != "none":
        is_asked &= table["graft_from"] == graft_from
    return table[is_asked]


def _missed_baseline(tables: Tables, scale: str) -> list[str]:
    """Whether the best alpha = 0 that was run misses its reference; asked of the full recipe."""
    if scale != "full":
        return []
    names = ["dataset", "alpha", "lr", "weight_decay", "graft", "accuracy"]
    rows = [tables[name][names] for name in ("map", "grafted", "tuned") if name in tables]
    table = pd.concat(rows)
    plain = table[(table["alpha"] == 0) & (table["graft"] == "none")]
    best = plain.groupby(["dataset", "lr", "weight_decay"])["accuracy"].mean()
    fired = [
        f"{BASELINE}: {dataset} reaches {values.max():.4f}, not {REFERENCE[dataset]:g}"
        for dataset, values in best.groupby("dataset")
        if values.max() < REFERENCE.get(str(dataset), 0.0)
    ]
    return fired if len(best) else [f"{BASELINE}: it was not run"]


def _figure_tables(tables: Tables) -> dict[str, pd.DataFrame]:
    """Means with intervals, which figures draw."""
    found: dict[str, pd.DataFrame] = {}
    if "map" in tables:
        found["map_numbers"] = map_numbers(tables["map"])
    if "tuned" in tables:
        found["tuned_means"] = means(tables["tuned"], ["alpha"], "accuracy")
    if "grafted" in tables:
        labels = ["alpha", "graft", "graft_from"]
        found["grafted_means"] = means(tables["grafted"], labels, "accuracy")
        effects = factor_effects(tables["grafted"])
        found["decomposition"] = means(effects, ["alpha", "effect"], "value")
    if "turning" in tables.get("shares", pd.DataFrame()):
        labels = ["activation", "decay", "alpha"]
        parts = [
            means(tables["shares"], labels, name).assign(quantity=name)
            for name in ("descent", "turning", "gradient_slope", "age")
        ]
        found["share_means"] = pd.concat(parts, ignore_index=True)
    if "speed" in tables:
        found["speed_means"] = means(tables["speed"], ["level", "alpha"], "steps")
    if "gap" in tables.get("gaps", pd.DataFrame()):
        found["gap_means"] = means(tables["gaps"], ["level", "alpha"], "gap")
    return found


def _notes(tables: Tables) -> list[str]:
    """Diverged runs by table, censored levels, runs that never came to equilibrium."""
    notes = []
    for name in ("map", "grafted", "shares", "tuned", "trials"):
        if name in tables:
            lost = tables[name]["is_diverged"]
            notes.append(
                f"{name}: {int(lost.sum())} of {len(lost)} runs diverged; their outcome is the "
                "accuracy of guessing"
            )
    for name, column in (("speed", "is_reached"), ("gaps", "gap")):
        if name in tables:
            notes += _censored(tables[name], name, column)
    if "is_old" in tables.get("shares", pd.DataFrame()):
        young = ~tables["shares"]["is_old"].dropna().astype(bool)
        notes.append(f"shares: {int(young.sum())} of {len(young)} runs ended before age 3")
    return notes


def _censored(table: pd.DataFrame, name: str, column: str) -> list[str]:
    """How many runs never reached a level, by level; the alphas that did not."""
    is_missing = table[column].isna() if column == "gap" else ~table[column].astype(bool)
    lines = []
    for level, lost in is_missing.groupby(table["level"]):
        if lost.any():
            alphas = sorted(set(table.loc[lost.index[lost], "alpha"]))
            of = ", ".join(f"{alpha:g}" for alpha in alphas)
            lines.append(
                f"{name}: {int(lost.sum())} of {len(lost)} runs did not come to {level:g} "
                f"ln(classes) of training loss (alpha {of})"
            )
    return lines

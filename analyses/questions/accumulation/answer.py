"""What the measured tables say: evidence on P1 and P2, exploratory numbers, break conditions."""

from __future__ import annotations

import pandas as pd

from analyses.claims.claim import Evidence
from analyses.measures.known_slopes import TOLERANCE
from analyses.measures.seeds import wide as by_seed
from analyses.questions.accumulation.explore import explore_all, slopes_of
from analyses.questions.accumulation.intervals import intervals, means, two_by_two
from analyses.questions.accumulation.measure import EQUILIBRIUM, GRAFTING, INIT, PLAIN
from analyses.study.question import Answer, Tables


def answer(tables: Tables, scale: str) -> Answer:
    """Conclude from the measured tables.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `analyses.questions.accumulation.measure.measure` gives them; absent ones were not run.
    scale : str

    Returns
    -------
    Answer
        Evidence on P1 where the networks at initialisation were run, on P2 where the equilibria
        were.
    """
    evidence = {"P1": _accumulation(tables, scale), "P2": _balance(tables, scale)}
    effects = two_by_two(tables)
    return Answer(
        question="accumulation_bias",
        scale=scale,
        evidence={key: given for key, given in evidence.items() if given is not None},
        explored=tuple(explore_all(tables, effects)),
        tables={
            **intervals(tables),
            "decomposition": means(effects, ["alpha", "effect"], "value"),
        },
        notes=tuple(_notes(tables)),
    )


def _accumulation(tables: Tables, scale: str) -> Evidence | None:
    """P1: the within-stage slope of ln output_grad at the start, one column a network."""
    slopes = slopes_of(tables, INIT, "start", "output_grad_rms")
    wide = by_seed(slopes, "net", "slope") if len(slopes) else slopes
    if not len(wide):
        return None
    return Evidence(
        values=wide.to_numpy(),
        components=tuple(wide.columns),
        scale=scale,
        arms=("fixed",),
        breaks_fired=tuple(_failed_checks(tables) + _missed_controls(tables)),
    )


def _failed_checks(tables: Tables) -> list[str]:
    """The worst case of each check that fails; a check that was not run does not pass."""
    table, fired = tables.get("instrument", pd.DataFrame(columns=["check"])), []
    for check in ("exact", "law", "orthogonality"):
        rows = table[table["check"] == check]
        if not len(rows):
            fired.append(f"an instrument check fails: {check} was not run")
            continue
        worst = rows.loc[(rows["value"] / rows["tolerance"]).idxmax()]
        if not worst["value"] <= worst["tolerance"]:
            fired.append(
                f"an instrument check fails: {check}, {worst['case']}: {worst['value']:.2g} "
                f"exceeds {worst['tolerance']:g}"
            )
    return fired


def _missed_controls(tables: Tables) -> list[str]:
    rows = slopes_of(tables, PLAIN, "start", "output_grad_rms")
    if not len(rows):
        return ["plain-L controls miss their known slopes: they were not run"]
    means = rows.groupby("net")[["slope", "known"]].mean()
    return [
        f"plain-L controls miss their known slopes: {net} has {row['slope']:.3f}, not "
        f"{row['known']:.3f}"
        for net, row in means.iterrows()
        if not abs(row["slope"] - row["known"]) <= TOLERANCE
    ]


def _balance(tables: Tables, scale: str) -> Evidence | None:
    """P2: measured minus predicted slope, one column a kind of decay and alpha."""
    table = tables.get("equilibrium")
    if table is None or "deviation" not in table:
        return None
    wide = by_seed(table, ["decay", "alpha"], "deviation")
    if not len(wide):
        return None
    return Evidence(
        values=wide.to_numpy(),
        components=tuple(f"{decay}, alpha {alpha:g}" for decay, alpha in wide.columns),
        scale=scale,
        arms=("fixed",),
        breaks_fired=tuple(_unbalanced(table)),
        n_diverged=int((table["status"] == "diverged").sum()),
    )


def _unbalanced(table: pd.DataFrame) -> list[str]:
    """Why runs are in no equilibrium: too young, or norms that decay without meeting steps."""
    fired = []
    if not table["age"].min() > table["age_needed"].max():
        fired.append("equilibrium age is 3 or less")
    drift = table.groupby(["decay", "alpha"])["drift"].median()
    if not drift.abs().max() <= table["drift_allowed"].max():
        worst = float(drift[drift.abs().idxmax()])
        fired.append(
            f"no equilibrium in spite of its age: norms still drift, at {worst:.2f} of decay's rate"
        )
    return fired


def _notes(tables: Tables) -> list[str]:
    """Break conditions looked at, and runs that diverged."""
    fired = _failed_checks(tables) + _missed_controls(tables)
    notes = []
    if "instrument" in tables:
        notes.append(f"instrument checks, worst of each: {', '.join(_worst(tables['instrument']))}")
    notes.append(f"break conditions of P1: {'; '.join(fired) or 'none fired'}")
    table = tables.get("equilibrium")
    if table is not None and "age" in table:
        notes.append(
            f"equilibrium age of the youngest layer of all runs: {table['age'].min():.2f}; "
            f"slopes are over ln grad_rms that spreads by {table['spread'].mean():.2f} nat"
        )
    for name, spec in (("equilibrium", EQUILIBRIUM), ("grafting", GRAFTING)):
        if name in tables:
            diverged = int((tables[name]["status"] == "diverged").sum())
            notes.append(f"{spec}: {diverged} of {len(tables[name])} runs diverged")
    return notes


def _worst(table: pd.DataFrame) -> list[str]:
    worst = table.groupby("check")[["value", "tolerance"]].max()
    return [
        f"{check} {row['value']:.2g} (allowed {row['tolerance']:g})"
        for check, row in worst.iterrows()
    ]

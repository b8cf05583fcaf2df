"""What the measured tables say: evidence on P1 and P2, exploratory numbers, break conditions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.claims.claim import Evidence
from analyses.measures.depth_slopes import QUANTITIES
from analyses.measures.known_slopes import TOLERANCE
from analyses.questions.accumulation.intervals import (
    STABILITY,
    by_arm,
    intervals,
    means,
    two_by_two,
)
from analyses.questions.accumulation.measure import EQUILIBRIUM, GRAFTING, INIT, PLAIN
from analyses.study.question import Answer, Explored, Tables
from gradscope.stats.intervals.student_t import student_t_mean
from gradscope.stats.tests.sign_flip import sign_flip

PHASES = ("1 %", "10 %", "last 10 %")
NAT = "nat a layer"


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
    explored = [
        *_controls(tables),
        *_initial_slopes(tables),
        *_persistence(tables),
        *_stability(tables),
        *_decomposition(effects),
        *_levels(tables),
    ]
    return Answer(
        question="accumulation_bias",
        scale=scale,
        evidence={key: given for key, given in evidence.items() if given is not None},
        explored=tuple(explored),
        tables={
            **intervals(tables),
            "decomposition": means(effects, ["alpha", "effect"], "value"),
        },
        notes=tuple(_notes(tables)),
    )


def _wide(table: pd.DataFrame, columns: str | list[str], values: str) -> pd.DataFrame:
    """One row a seed, one column a case; only seeds that have every case."""
    # By name, not by product: alpha = 0 has no arm with coupled decay.
    wide = table.groupby(["seed", *([columns] if isinstance(columns, str) else columns)])[values]
    return wide.mean().unstack(columns).dropna()


def _accumulation(tables: Tables, scale: str) -> Evidence | None:
    """P1: the within-stage slope of ln output_grad at the start, one column a network."""
    slopes = _slopes(tables, INIT, "start", "output_grad_rms")
    wide = _wide(slopes, "net", "slope") if len(slopes) else slopes
    if not len(wide):
        return None
    return Evidence(
        values=wide.to_numpy(),
        components=tuple(wide.columns),
        scale=scale,
        arms=("fixed",),
        breaks_fired=tuple(_failed_checks(tables) + _missed_controls(tables)),
    )


def _slopes(tables: Tables, spec: str, phase: str, quantity: str) -> pd.DataFrame:
    columns = ["spec", "net", "seed", "phase", "quantity", "slope", "known"]
    table = tables.get("slopes", pd.DataFrame(columns=columns))
    is_asked = (table["spec"] == spec) & (table["phase"] == phase) & (table["quantity"] == quantity)
    return table[is_asked]


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
    rows = _slopes(tables, PLAIN, "start", "output_grad_rms")
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
    wide = _wide(table, ["decay", "alpha"], "deviation")
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


def _controls(tables: Tables) -> list[Explored]:
    rows = _slopes(tables, PLAIN, "start", "output_grad_rms")
    return [
        _explore(
            "control",
            f"slope of ln output_grad at the start, plain net: {net}",
            own["slope"],
            NAT,
            null=own["known"].iloc[0],
            note=f"known: {own['known'].iloc[0]:.3f}; p against it",
        )
        for net, own in rows.groupby("net")
    ]


def _initial_slopes(tables: Tables) -> list[Explored]:
    """The other quantities beside that of P1: their disagreement is a result."""
    return [
        _explore("H1a", f"slope of ln {quantity} at the start, {net}", own["slope"], NAT)
        for quantity in QUANTITIES
        if quantity != "output_grad_rms"
        for net, own in _slopes(tables, INIT, "start", quantity).groupby("net")
    ]


def _persistence(tables: Tables) -> list[Explored]:
    """H1b: what is left of the slope beyond half of that at the start, in its direction."""
    found = []
    for quantity in ("output_grad_rms", "grad_rms"):
        start = _slopes(tables, GRAFTING, "start", quantity)
        for net, own in start.groupby("net"):
            first = own.set_index("seed")["slope"]
            sign = 1.0 if first.mean() > 0 else -1.0
            for phase in PHASES:
                later = _slopes(tables, GRAFTING, phase, quantity)
                later = later[later["net"] == net].set_index("seed")["slope"]
                contrast = (sign * (later - first / 2)).dropna()
                if len(contrast) < 2:
                    continue
                note = f"slopes: start {first.mean():.3f}, {phase} {later.mean():.3f}"
                found.append(
                    _explore(
                        "H1b",
                        f"what persists of the slope of ln {quantity} at {phase} of "
                        f"the steps beyond half of the start's, {net}, alpha 0",
                        contrast,
                        NAT,
                        note=note,
                    )
                )
    return found


def _stability(tables: Tables) -> list[Explored]:
    """Gradient stability as alpha varies, against alpha = 0 at the same global step."""
    found = []
    for quantity, (words, unit) in STABILITY.items():
        wide = by_arm(tables, quantity)
        for arm, alpha in wide.columns if len(wide) else ():
            if arm != "full" or ("zero", 0.0) not in wide:
                continue
            difference = (wide[arm, alpha] - wide["zero", 0.0]).dropna()
            found.append(
                _explore(
                    "H1c",
                    f"{words}, at alpha {alpha:g} minus that at alpha "
                    "0, same global step size, VGG13",
                    difference,
                    unit,
                    note=f"at alpha 0: {wide['zero', 0.0].mean():.3g}",
                )
            )
    return found


def _decomposition(effects: pd.DataFrame) -> list[Explored]:
    return [
        _explore(
            "H1e",
            f"effect of alpha {alpha:g} on ln training loss at the end, {effect}, same "
            "global step size, VGG13",
            own["value"],
            "nat",
        )
        for (alpha, effect), own in effects.groupby(["alpha", "effect"], sort=False)
    ]


def _levels(tables: Tables) -> list[Explored]:
    """How far update ratios lie from the level of uncorrelated gradients, beside P2."""
    layers = tables.get("equilibrium_layers")
    if layers is None:
        return []
    excess = np.log(layers["update_ratio"] / layers["level"])
    runs = excess.groupby([layers["decay"], layers["alpha"], layers["seed"]]).mean()
    return [
        _explore(
            "H1d",
            f"ln update_ratio over its level for uncorrelated gradients, {decay}, alpha {alpha:g}",
            own,
            "nat",
        )
        for (decay, alpha), own in runs.groupby(level=[0, 1])
    ]


def _explore(
    key: str, statement: str, values: pd.Series, unit: str, *, null: float = 0.0, note: str = ""
) -> Explored:
    """A mean over seeds with its t interval and sign-flip p; without p for a single seed."""
    sample = values.to_numpy(dtype=np.float64)
    if len(sample) < 2:
        estimate = float(sample.mean()) if len(sample) else float("nan")
        return Explored(
            key=key, statement=statement, estimate=estimate, n=len(sample), unit=unit, note=note
        )
    interval = student_t_mean(sample)
    p = sign_flip(sample, null).p_value
    return Explored(
        key=key,
        statement=statement,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        p=p,
        n=interval.n,
        unit=unit,
        note=note,
    )


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

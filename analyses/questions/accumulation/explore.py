"""Exploratory numbers on accumulation: controls, persistence, stability, decomposition, levels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.measures.depth_slopes import QUANTITIES
from analyses.measures.seeds import explore
from analyses.questions.accumulation.intervals import STABILITY, by_arm
from analyses.questions.accumulation.measure import GRAFTING, INIT, PLAIN
from analyses.study.question import Explored, Tables

PHASES = ("1 %", "10 %", "last 10 %")
NAT = "nat a layer"


def explore_all(tables: Tables, effects: pd.DataFrame) -> list[Explored]:
    """Return every exploratory number of the question.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Measured tables.
    effects : DataFrame
        The 2 x 2 decomposition (`intervals.two_by_two`).
    """
    found = [
        *_controls(tables),
        *_initial_slopes(tables),
        *_persistence(tables),
        *_stability(tables),
        *_decomposition(effects),
        *_levels(tables),
    ]
    return [number for number in found if number is not None]


def slopes_of(tables: Tables, spec: str, phase: str, quantity: str) -> pd.DataFrame:
    """Return the rows of ``slopes`` of one spec, phase and quantity."""
    columns = ["spec", "net", "seed", "phase", "quantity", "slope", "known"]
    table = tables.get("slopes", pd.DataFrame(columns=columns))
    is_asked = (table["spec"] == spec) & (table["phase"] == phase) & (table["quantity"] == quantity)
    return table[is_asked]


def _controls(tables: Tables) -> list[Explored | None]:
    rows = slopes_of(tables, PLAIN, "start", "output_grad_rms")
    return [
        explore(
            "control",
            f"slope of ln output_grad at the start, plain net: {net}",
            own["slope"],
            NAT,
            null=own["known"].iloc[0],
            note=f"known: {own['known'].iloc[0]:.3f}; p against it",
        )
        for net, own in rows.groupby("net")
    ]


def _initial_slopes(tables: Tables) -> list[Explored | None]:
    """The other quantities beside that of P1: their disagreement is a result."""
    return [
        explore("H1a", f"slope of ln {quantity} at the start, {net}", own["slope"], NAT)
        for quantity in QUANTITIES
        if quantity != "output_grad_rms"
        for net, own in slopes_of(tables, INIT, "start", quantity).groupby("net")
    ]


def _persistence(tables: Tables) -> list[Explored | None]:
    """H1b: what is left of the slope beyond half of that at the start, in its direction."""
    found = []
    for quantity in ("output_grad_rms", "grad_rms"):
        start = slopes_of(tables, GRAFTING, "start", quantity)
        for net, own in start.groupby("net"):
            first = own.set_index("seed")["slope"]
            sign = 1.0 if first.mean() > 0 else -1.0
            for phase in PHASES:
                later = slopes_of(tables, GRAFTING, phase, quantity)
                later = later[later["net"] == net].set_index("seed")["slope"]
                contrast = (sign * (later - first / 2)).dropna()
                if len(contrast) < 2:
                    continue
                note = f"slopes: start {first.mean():.3f}, {phase} {later.mean():.3f}"
                found.append(
                    explore(
                        "H1b",
                        f"what persists of the slope of ln {quantity} at {phase} of "
                        f"the steps beyond half of the start's, {net}, alpha 0",
                        contrast,
                        NAT,
                        note=note,
                    )
                )
    return found


def _stability(tables: Tables) -> list[Explored | None]:
    """Gradient stability as alpha varies, against alpha = 0 at the same global step."""
    found = []
    for quantity, (words, unit) in STABILITY.items():
        wide = by_arm(tables, quantity)
        for arm, alpha in wide.columns if len(wide) else ():
            if arm != "full" or ("zero", 0.0) not in wide:
                continue
            difference = (wide[arm, alpha] - wide["zero", 0.0]).dropna()
            found.append(
                explore(
                    "H1c",
                    f"{words}, at alpha {alpha:g} minus that at alpha "
                    "0, same global step size, VGG13",
                    difference,
                    unit,
                    note=f"at alpha 0: {wide['zero', 0.0].mean():.3g}",
                )
            )
    return found


def _decomposition(effects: pd.DataFrame) -> list[Explored | None]:
    return [
        explore(
            "H1e",
            f"effect of alpha {alpha:g} on ln training loss at the end, {effect}, same "
            "global step size, VGG13",
            own["value"],
            "nat",
        )
        for (alpha, effect), own in effects.groupby(["alpha", "effect"], sort=False)
    ]


def _levels(tables: Tables) -> list[Explored | None]:
    """How far update ratios lie from the level of uncorrelated gradients, beside P2."""
    layers = tables.get("equilibrium_layers")
    if layers is None:
        return []
    excess = np.log(layers["update_ratio"] / layers["level"])
    runs = excess.groupby([layers["decay"], layers["alpha"], layers["seed"]]).mean()
    return [
        explore(
            "H1d",
            f"ln update_ratio over its level for uncorrelated gradients, {decay}, alpha {alpha:g}",
            own,
            "nat",
        )
        for (decay, alpha), own in runs.groupby(level=[0, 1])
    ]

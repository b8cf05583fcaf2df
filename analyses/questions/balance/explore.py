"""The exploratory half of the balance question: numbers without a verdict word."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyses.measures.alpha.cross_fit import cross_fitted_gain
from analyses.measures.alpha.step_map import ridge_slope, transfer_errors
from analyses.measures.seeds import explore, slopes_over_columns, wide
from analyses.study.question import Explored, Tables

CELLS = {
    ("none", "zero"): "both of alpha",
    ("profile", "zero"): "direction of alpha",
    ("tensor", "alpha"): "profile of alpha",
    ("global", "alpha"): "neither of alpha",
}
"""The 2x2 at the global step size of alpha, by ``graft`` and ``graft_from``."""


def explored(tables: Tables) -> Iterator[Explored]:
    """Give everything that was looked at beside the primaries."""
    found = [
        *_map(tables.get("map")),
        *_shares(tables.get("shares")),
        *_speed(tables.get("speed")),
        *_gaps(tables.get("gaps")),
        *_claimed_range(tables.get("tuned")),
        *_decomposition(tables.get("grafted")),
    ]
    yield from (one for one in found if one is not None)


def map_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return per seed how the map transfers and where its ridge runs, by equal lr and equal step.

    Runs of one cell and seed from two specs are averaged.
    """
    rows = []
    for seed, own in table.groupby("seed"):
        cells = own.groupby(["alpha", "lr"], as_index=False)[["accuracy", "chance", "step"]].mean()
        for by, error in transfer_errors(cells).items():
            row = {"seed": seed, "by": by, "error": error, "ridge": ridge_slope(cells, by)}
            rows.append(row)
    return pd.DataFrame(rows, columns=["seed", "by", "error", "ridge"])


def _map(table: pd.DataFrame | None) -> list[Explored | None]:
    if table is None:
        return []
    numbers = map_numbers(table)
    errors, ridges = (wide(numbers, "by", name) for name in ("error", "ridge"))
    found = []
    if {"lr", "step"} <= set(errors.columns):
        found.append(
            explore(
                "map",
                "error of predicting one alpha's accuracy from the others at equal measured step, "
                "less that at equal learning rate; negative if alpha was a learning rate",
                errors["step"] - errors["lr"],
                "accuracy",
            )
        )
    words = {"lr": "best learning rate", "step": "measured step at the best cells"}
    found += [
        explore("map", f"the {words[by]} moves with alpha", ridges[by], "decades per unit of alpha")
        for by in ridges.columns
    ]
    return found


def _shares(table: pd.DataFrame | None) -> list[Explored | None]:
    """H2a: how the early third's share moves with alpha, in the direction of the gradient slope."""
    if table is None or "turning" not in table:
        return []
    found = []
    for (net, decay), own in table.groupby(["activation", "decay"]):
        gradient = wide(own, "alpha", "gradient_slope")
        for name, words in (("descent", "descent"), ("turning", "turning")):
            shares = wide(own, "alpha", name)
            if not len(shares) or shares.shape[1] < 2:
                continue
            sign = np.sign(gradient.loc[shares.index].mean(axis=1))
            found.append(
                explore(
                    "H2a",
                    f"share of the early third in {words} over alpha, times the sign of the "
                    f"measured gradient slope, plain {net} net, {decay} decay; predicted > 0",
                    slopes_over_columns(shares) * sign.to_numpy(),
                    "share per unit of alpha",
                    _age_note(own, float(gradient.to_numpy().mean())),
                )
            )
    return found


def _age_note(own: pd.DataFrame, slope: float) -> str:
    return (
        f"gradient slope {slope:+.2f} nat a layer; youngest age {own['age'].min():.1f}; "
        "rival: 0, where decay sets every layer's turning"
    )


def _speed(table: pd.DataFrame | None) -> list[Explored | None]:
    """H2b: how ln(steps to a training loss) moves with alpha; predicted < 0."""
    if table is None:
        return []
    found = []
    for level, own in table.groupby("level", sort=False):
        steps = np.log(wide(own, "alpha", "steps"))
        if steps.shape[1] >= 2:
            lost = int((~own["is_reached"].astype(bool)).sum())
            note = f"{lost} of {len(own)} runs censored, at their last step" if lost else ""
            found.append(
                explore(
                    "H2b",
                    f"ln(steps to {level:g} ln(classes) of training loss) over alpha, tuned for "
                    "training loss; predicted < 0",
                    slopes_over_columns(steps),
                    "nat per unit of alpha",
                    note,
                )
            )
    return found


def _gaps(table: pd.DataFrame | None) -> list[Explored | None]:
    """H2c: how the generalisation gap at equal training loss moves with alpha; predicted > 0."""
    if table is None or "gap" not in table:
        return []
    found = []
    for level, own in table.groupby("level", sort=False):
        gaps = wide(own, "alpha", "gap")
        if gaps.shape[1] < 2 or not len(gaps):
            continue
        left_out = own["seed"].nunique() - len(gaps)
        found.append(
            explore(
                "H2c",
                f"validation less training loss at {level:g} ln(classes) of training loss over "
                "alpha, tuned; predicted > 0",
                slopes_over_columns(gaps),
                "nat per unit of alpha",
                f"{left_out} seeds left out: an alpha never came to the level" if left_out else "",
            )
        )
    return found


def _claimed_range(table: pd.DataFrame | None) -> list[Explored | None]:
    """H2d-a: the best alpha of the claimed range against 0.25 and 0.5."""
    if table is None:
        return []
    return [
        explore(
            "H2d-a",
            "accuracy of the best alpha within [-0.3, 0.1] less that of the best of 0.25 and 0.5, "
            "tuned, chosen by the other seeds; predicted > 0",
            cross_fitted_gain(wide(table, "alpha", "accuracy")),
            "accuracy",
        )
    ]


def factor_effects(grafted: pd.DataFrame) -> pd.DataFrame:
    """Return both main effects and the interaction of the 2x2, one row a seed, alpha and effect.

    At the global step size of alpha: the profile (how the step is shared out among tensors) of
    alpha rather than of alpha = 0, the direction within tensors, and what is more than their sum.
    """
    pairs = zip(grafted["graft"], grafted["graft_from"], strict=True)
    cell = [CELLS.get(("none", "zero") if graft == "none" else (graft, of)) for graft, of in pairs]
    rows = []
    for alpha, own in grafted.assign(cell=cell).dropna(subset=["cell"]).groupby("alpha"):
        table = wide(own, "cell", "accuracy")
        if not set(CELLS.values()) <= set(table.columns):
            continue
        both, direction, profile, neither = (table[name] for name in CELLS.values())
        effects = {
            "profile": (both - direction + profile - neither) / 2,
            "direction": (both - profile + direction - neither) / 2,
            "interaction": both - direction - profile + neither,
        }
        rows += [
            {"alpha": alpha, "seed": seed, "effect": name, "value": value}
            for name, values in effects.items()
            for seed, value in values.items()
        ]
    return pd.DataFrame(rows, columns=["alpha", "seed", "effect", "value"])


def _decomposition(table: pd.DataFrame | None) -> list[Explored | None]:
    if table is None:
        return []
    return [
        explore(
            "2x2",
            f"effect of alpha {alpha:g} on accuracy through the {effect}, at its global step size",
            own["value"],
            "accuracy",
        )
        for (alpha, effect), own in factor_effects(table).groupby(["alpha", "effect"], sort=False)
    ]

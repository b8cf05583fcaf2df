"""What the measured tables say of isomerism: evidence on P5, exploratory numbers, breaks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyses.claims.claim import Evidence
from analyses.measures.alpha.best_alpha import BestAlpha, best_alpha, is_monotonic
from analyses.measures.alpha.factorial import main_effects
from analyses.measures.alpha.tuned_arm import tuning_breaks
from analyses.measures.seeds import explore, slopes_over_columns, wide
from analyses.questions.accumulation.intervals import means
from analyses.study.question import Answer, Explored, Tables

NOT_IDENTIFIED = (
    "best alpha not identified: more than 5 % of fits are not concave, or at the range's end"
)
NOT_MONOTONIC = "the best alpha does not move monotonically"
GRADIENTS = {
    "output_grad_slope": ("H3a", "depth slope of ln output gradient", "nat a layer"),
    "grad_slope": ("H3a", "depth slope of ln RMS gradient", "nat a layer"),
    "sparsity": ("H3b", "ln kurtosis of the inner weights' gradients", "nat"),
    "head_sparsity": ("H3b", "ln kurtosis of the head's gradient", "nat"),
}
FACTORS = {
    "n_classes": "classes",
    "samples": "samples per class",
    "label_noise": "label noise",
    "imbalance": "imbalance",
    "augment": "augmentation",
}


def answer(tables: Tables, scale: str) -> Answer:
    """Conclude from the measured tables.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `analyses.questions.isomerism.measure.measure` gives them; absent ones were not run.
    scale : str

    Returns
    -------
    Answer
        Evidence on P5 where the tuned arm was run on two data sets or more.
    """
    tops = best_alphas(tables)
    moved = shift(tables, tops, scale)
    found = [*_classes(tables), *_factors(tables), *_tops(tops)]
    return Answer(
        question="dataset_isomerism",
        scale=scale,
        evidence={} if moved is None else {"P5": moved},
        explored=tuple(one for one in found if one is not None),
        tables=_figure_tables(tables, tops),
        notes=tuple(_notes(tables)),
    )


def best_alphas(tables: Tables) -> dict[str, BestAlpha]:
    """Fit the best alpha of each data set of the tuned arm, from few classes to many.

    Random merges come last. Only seeds that have every alpha on every data set are used.
    """
    table = tables.get("tuned", pd.DataFrame())
    if not len(table):
        return {}
    # Data sets by rank, so that columns stand in order; names would sort as text.
    order = table[["is_random", "n_classes", "data"]].drop_duplicates()
    names = order.sort_values(["is_random", "n_classes"])["data"].tolist()
    accuracy = wide(table, ["data", "alpha"], "accuracy")
    alphas = sorted(set(table["alpha"]))
    is_whole = {name: set(accuracy[name].columns) == set(alphas) for name in names}
    if not len(accuracy) or len(alphas) < 4 or not all(is_whole.values()):
        return {}
    return {name: best_alpha(accuracy[name][alphas].to_numpy(), alphas) for name in names}


def shift(tables: Tables, tops: dict[str, BestAlpha], scale: str) -> Evidence | None:
    """P5: best alpha with the most classes less that with the fewest, seed by seed.

    Random merges are no data set of their own: they are left to exploration.
    """
    meant = [name for name in tops if "random" not in name]
    if len(meant) < 2:
        return None
    lost = [name for name in meant if not tops[name].is_identified]
    fired = [f"{NOT_IDENTIFIED} ({', '.join(lost)})"] if lost else []
    if not is_monotonic([tops[name].alpha for name in meant]):
        fired.append(NOT_MONOTONIC)
    ends, table = (meant[0], meant[-1]), tables["tuned"]
    values = tops[meant[-1]].of_seeds - tops[meant[0]].of_seeds
    return Evidence(
        values=values[:, None],
        components=(f"{meant[0]} to {meant[-1]}",),
        scale=scale,
        arms=("tuned",),
        breaks_fired=tuple(fired),
        n_diverged=int(table.loc[table["data"].isin(ends), "is_diverged"].sum()),
    )


def _classes(tables: Tables) -> Iterator[Explored | None]:
    """H3a, H3b: how gradients move with each doubling of classes, at a fixed number of examples."""
    table = tables.get("classes", pd.DataFrame())
    if not len(table) or "sparsity" not in table:
        return
    for (matched, head), own in table.groupby(["matched", "head"], sort=False):
        for name, (key, words, unit) in GRADIENTS.items():
            values = wide(own, "n_classes", name)
            if not len(values) or values.shape[1] < 2:
                continue
            values.columns = np.log2(values.columns.to_numpy(dtype=float))
            yield explore(
                key,
                f"{words} with each doubling of classes, {head} head, at equal {matched}",
                slopes_over_columns(values),
                f"{unit} per doubling",
                _left_out(own, values),
            )


def _left_out(own: pd.DataFrame, values: pd.DataFrame) -> str:
    lost = own["seed"].nunique() - len(values)
    return f"{lost} seeds left out: a run never came to the loss" if lost else ""


def effects(factors: pd.DataFrame) -> pd.DataFrame:
    """Return the main effects of the factorial: one row a seed, factor, outcome and matching."""
    rows = []
    levels = {name: sorted(set(factors[name])) for name in FACTORS}
    if any(len(own) != 2 for own in levels.values()):
        return pd.DataFrame(columns=["matched", "outcome", "factor", "levels", "seed", "value"])
    for matched, own in factors.groupby("matched", sort=False):
        for outcome in ("output_grad_slope", "grad_slope", "sparsity"):
            for factor, values in main_effects(own, levels, outcome).items():
                low, high = levels[str(factor)]
                rows += [
                    {
                        "matched": matched,
                        "outcome": outcome,
                        "factor": FACTORS[str(factor)],
                        "levels": f"{low:g} to {high:g}",
                        "seed": seed,
                        "value": value,
                    }
                    for seed, value in values.items()
                ]
    return pd.DataFrame(rows, columns=["matched", "outcome", "factor", "levels", "seed", "value"])


def _factors(tables: Tables) -> Iterator[Explored | None]:
    """H3e: each factor's effect over its stated range; no ranking, since ranges are not units."""
    table = tables.get("factors", pd.DataFrame())
    if not len(table) or "sparsity" not in table:
        return
    labels = ["matched", "outcome", "factor", "levels"]
    for (matched, outcome, factor, levels), own in effects(table).groupby(labels, sort=False):
        _, words, unit = GRADIENTS[outcome]
        yield explore(
            "H3e",
            f"effect of {factor} ({levels}) on the {words}, at equal {matched}",
            own["value"],
            unit,
        )


def _tops(tops: dict[str, BestAlpha]) -> Iterator[Explored]:
    """Give the best alpha of each data set with its bootstrap interval; it is not tested."""
    for name, top in tops.items():
        found = "identified" if top.is_identified else "not identified"
        yield Explored(
            key="H3c",
            statement=f"best alpha of the tuned arm, {name}",
            estimate=top.alpha,
            low=top.low,
            high=top.high,
            n=len(top.of_seeds),
            unit="alpha",
            note=f"{found}; {top.non_concave:.0%} of resampled fits are not concave",
        )


def _figure_tables(tables: Tables, tops: dict[str, BestAlpha]) -> dict[str, pd.DataFrame]:
    found: dict[str, pd.DataFrame] = {}
    if "sparsity" in tables.get("classes", pd.DataFrame()):
        parts = [
            means(tables["classes"], ["matched", "head", "n_classes"], name).assign(quantity=name)
            for name in GRADIENTS
        ]
        found["class_means"] = pd.concat(parts, ignore_index=True)
    if "sparsity" in tables.get("factors", pd.DataFrame()):
        labels = ["matched", "outcome", "factor", "levels"]
        found["factor_means"] = means(effects(tables["factors"]), labels, "value")
    if "tuned" in tables:
        labels = ["data", "n_classes", "is_random", "alpha"]
        found["tuned_means"] = means(tables["tuned"], labels, "accuracy")
    if tops:
        names = ("alpha", "low", "high", "non_concave", "is_identified")
        rows = [{"data": data, **{n: getattr(top, n) for n in names}} for data, top in tops.items()]
        found["best_alpha"] = pd.DataFrame(rows)
    return found


def _notes(tables: Tables) -> Iterator[str]:
    for name in ("classes", "factors", "tuned", "trials"):
        if name in tables:
            table = tables[name]
            own = table[table["matched"] == "step"] if "matched" in table else table
            yield f"{name}: {int(own['is_diverged'].sum())} of {len(own)} runs diverged"
    for name in ("classes", "factors"):
        table = tables.get(name, pd.DataFrame())
        if "sparsity" in table:
            late = table[table["matched"] == "loss"]["sparsity"].isna()
            yield (
                f"{name}: {int(late.sum())} of {len(late)} runs never came to the loss level "
                "that gradients are compared at"
            )
    yield from _without_comparison(tables)
    if "trials" in tables:
        yield from tuning_breaks(tables["trials"], ["data", "alpha"])


def _without_comparison(tables: Tables) -> Iterator[str]:
    """Name the comparisons that no seed has all runs of: they have no row."""
    classes, factors = (tables.get(name, pd.DataFrame()) for name in ("classes", "factors"))
    if "sparsity" in classes:
        for (matched, head), own in classes.groupby(["matched", "head"], sort=False):
            if not len(wide(own, "n_classes", "sparsity")):
                reached = set(own.loc[own["sparsity"].notna(), "n_classes"])
                lost = ", ".join(str(n) for n in sorted(set(own["n_classes"]) - reached))
                yield (
                    f"classes, {head} head, at equal {matched}: nothing is compared, since no seed "
                    "came to it with every number of classes"
                    f"{f'; with {lost} none did' if lost else ''}"
                )
    if "sparsity" in factors:
        compared = set(effects(factors)["matched"])
        for matched in factors["matched"].unique():
            if matched not in compared:
                yield (
                    f"factors, at equal {matched}: nothing is compared, since no seed came to it "
                    "in every combination"
                )

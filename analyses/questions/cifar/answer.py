"""What the measured tables say of the paper's experiments on CIFAR: exploratory numbers only."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analyses.measures.alpha.tuned_arm import tuning_breaks
from analyses.questions.accumulation.intervals import means
from analyses.questions.balance.explore import map_numbers
from analyses.questions.cifar.explore import curve, explored
from analyses.questions.cifar.explore_map import map_cells
from analyses.questions.cifar.measure import ALPHA10, ALPHA100, MAP, TUNED
from analyses.study.question import Answer, Tables

QUANTITIES = ("accuracy", "train_loss", "step", "roughness", "coherence")
PRECISIONS = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}
GROUPS = ["spec", "model", "dataset", "labels", "arm", "alpha"]


def answer(tables: Tables, scale: str) -> Answer:
    """Conclude from the measured tables.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `analyses.questions.cifar.measure.measure` gives them; absent ones were not run.
    scale : str

    Returns
    -------
    Answer
        Without evidence on any claim: P3, P4 and P5 are asked of other runs, at scale full.
    """
    return Answer(
        question="cifar",
        scale=scale,
        evidence={},
        explored=tuple(explored(tables)),
        tables=_figure_tables(tables),
        notes=tuple(_notes(tables)),
    )


def _figure_tables(tables: Tables) -> dict[str, pd.DataFrame]:
    """Means over seeds with intervals, which figures draw."""
    found: dict[str, pd.DataFrame] = {}
    if "outcomes" in tables:
        outcomes = tables["outcomes"]
        parts = [
            means(outcomes[outcomes["spec"] != MAP], GROUPS, name).assign(quantity=name)
            for name in QUANTITIES
            if name in outcomes
        ]
        found["outcome_means"] = pd.concat(parts, ignore_index=True)
        cells = map_cells(tables)
        if len(cells):
            found["map_numbers"] = map_numbers(cells)
            columns = ["accuracy", "step", "is_diverged"]
            found["map_means"] = cells.groupby(["alpha", "lr"], as_index=False)[columns].mean()
    if "slopes" in tables:
        found["slope_means"] = means(tables["slopes"], [*GROUPS, "phase", "quantity"], "slope")
    return found


def _notes(tables: Tables) -> Iterator[str]:
    outcomes = tables.get("outcomes", pd.DataFrame())
    if not len(outcomes):
        return
    for spec, own in outcomes.groupby("spec", sort=False):
        lost = own[own["is_diverged"].astype(bool)]
        places = zip(lost["arm"], lost["alpha"], strict=True)
        where = sorted({f"{arm} {alpha:g}" for arm, alpha in places})
        named = f" ({', '.join(where)})" if where else ""
        yield (
            f"{spec}: {len(own)} runs, {own['seed'].nunique()} seeds; {len(lost)} diverged{named}; "
            "a diverged run counts with the accuracy of guessing"
        )
    yield from _precisions(outcomes)
    for spec in (ALPHA10, ALPHA100):
        for arm in ("fixed", "grafted"):
            ran = outcomes[(outcomes["spec"] == spec) & (outcomes["arm"] == arm)]
            yield from _incomplete(curve(tables, spec, arm), ran)
    started = outcomes[outcomes["spec"] == MAP]
    if len(started):
        whole = map_cells(tables)
        yield from _incomplete(whole.set_index("seed") if len(whole) else whole, started)
    if "trials" in tables:
        yield from tuning_breaks(tables["trials"], ["alpha"])


def _precisions(outcomes: pd.DataFrame) -> Iterator[str]:
    """Name the seeds of each precision, where there are several."""
    if "amp" not in outcomes or outcomes["amp"].nunique() < 2:
        return
    own = outcomes[outcomes["spec"] != TUNED].groupby("amp")["seed"].unique()
    parts = [f"{', '.join(map(str, sorted(own[amp])))} in {PRECISIONS[amp]}" for amp in own.index]
    yield f"seeds {'; '.join(parts)}: arms are compared within a seed, so within a precision"


def _incomplete(complete: pd.DataFrame, outcomes: pd.DataFrame) -> Iterator[str]:
    """Name the seeds that lack a cell and so enter no paired comparison."""
    missing = sorted(set(outcomes["seed"]) - set(complete.index))
    if missing:
        spec, arm = outcomes[["spec", "arm"]].iloc[0]
        seeds = ", ".join(map(str, missing))
        yield f"{spec}, {arm} arm: seeds {seeds} lack a cell and are left out of comparisons"

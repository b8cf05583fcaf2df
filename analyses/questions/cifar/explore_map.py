"""What the map of accuracy over alpha and learning rate says: exploratory numbers of CIFAR."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyses.measures.seeds import best_column, explore, slopes_over_columns, wide
from analyses.questions.balance.explore import map_numbers
from analyses.questions.cifar.measure import MAP
from analyses.study.question import Explored, Tables


def map_explored(tables: Tables) -> Iterator[Explored | None]:
    """X5: what the map predicts at equal step and at equal learning rate; its best cells."""
    own = map_cells(tables)
    if not len(own):
        return
    yield _transfer(own, "")
    yield _transfer(learned(own), ", at the learning rates at which every alpha learned")
    ridges = wide(map_numbers(own), "by", "ridge")
    for by, words in (("lr", "learning rate"), ("step", "measured step")):
        if by in ridges.columns:
            text = f"shift of the mean {words}, weighted by accuracy, over all cells"
            yield explore("X5", text, ridges[by], "decades per unit of alpha")
            chosen = np.log10(best_of_map(own, by))
            if chosen.shape[1] >= 3:
                text = f"shift of the {words} at the cells that validation accuracy chose"
                found = slopes_over_columns(chosen)
                yield explore("X5", text, found, "decades per unit of alpha")
    yield from _best_by_rate(own)
    best = best_of_map(own)
    for alpha in best.columns.drop(0.0, errors="ignore") if 0.0 in best.columns else ():
        yield explore(
            "X6",
            f"test accuracy at alpha {alpha:g} less that at 0, each at the learning rate of the "
            "map that validation accuracy chose",
            best[alpha] - best[0.0],
            "accuracy",
        )


def _best_by_rate(cells: pd.DataFrame) -> Iterator[Explored | None]:
    """X1 on the map: the best alpha at each learning rate, of seeds in which some alpha learned.

    Among networks that guess, none is best.
    """
    is_above = cells["accuracy"] > 2 * cells["chance"]
    learning = cells[is_above.groupby([cells["seed"], cells["lr"]]).transform("any")]
    for lr, own in learning.groupby("lr"):
        table = wide(own, "alpha", "accuracy")
        text = f"alpha with the highest test accuracy at learning rate {lr:g} of the map"
        yield explore("X1", text, best_column(table), "alpha")


def map_cells(tables: Tables) -> pd.DataFrame:
    """Return the runs of the map, of the seeds that have every cell that was run."""
    table = tables.get("outcomes", pd.DataFrame())
    own = table[table["spec"] == MAP] if len(table) else table
    if not len(own) or "step" not in own:
        return pd.DataFrame()
    cell = own.groupby(["alpha", "lr"]).ngroup()
    return own[cell.groupby(own["seed"]).transform("nunique") == cell.nunique()]


def _transfer(cells: pd.DataFrame, where: str) -> Explored | None:
    errors = wide(map_numbers(cells), "by", "error")
    if not {"lr", "step"} <= set(errors.columns):
        return None
    return explore(
        "X5",
        "error of predicting one alpha's accuracy from the others at equal measured step, less "
        f"that at equal learning rate{where}; negative if alpha acts as a learning rate",
        errors["step"] - errors["lr"],
        "accuracy",
        f"{errors['step'].mean():.3f} less {errors['lr'].mean():.3f}",
    )


def learned(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the learning rates of a seed at which every alpha exceeds twice guessing.

    Where no alpha learns, guessing predicts guessing at equal learning rate.
    """
    is_above = cells["accuracy"] > 2 * cells["chance"]
    return cells[is_above.groupby([cells["seed"], cells["lr"]]).transform("all")]


def best_of_map(cells: pd.DataFrame, values: str = "accuracy") -> pd.DataFrame:
    """Return a value by seed and alpha, at the learning rate best on validation images.

    Each seed chooses its own learning rates, of equally good ones the lowest; a diverged run has
    the accuracy of guessing in both.
    """
    chosen = cells.sort_values("lr", ignore_index=True)
    chosen = chosen.assign(
        val_accuracy=chosen["val_accuracy"].where(
            ~chosen["is_diverged"].astype(bool), chosen["chance"]
        )
    ).fillna({"val_accuracy": chosen["chance"]})
    rows = chosen.loc[chosen.groupby(["seed", "alpha"])["val_accuracy"].idxmax()]
    return wide(rows, "alpha", values)

"""Is alpha a learning rate? Accuracy over alpha and learning rate, against the measured step.

alpha multiplies the step by v^(-alpha), a factor of a thousand over the range of the paper. If that
is all it does, accuracy is a function of the *measured* size of the step alone: lines of equal step
are ridges of the map, and the curve of one alpha predicts that of another at equal step. If alpha
does more than that, it does not; if alpha does nothing to the step, curves agree at equal learning
rate instead.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

BEGINNING = 0.25
"""Share of the run whose steps are measured: later ones are an outcome, since a net that died
takes small steps however large the one was that killed it. Set after a first look at a map."""
MIN_OVERLAP = 2
"""Fewest cells over which an error of prediction is taken."""


def step_size(tree: xr.DataTree) -> float:
    """Return the root mean square update of all weights, its geometric mean over the beginning.

    The beginning is the first quarter of the recorded run; nan where none of its steps was finite
    and above zero.
    """
    updates = tree.children["updates"].to_dataset(inherit=False)
    steps = updates["step"].values
    weights = updates.isel(
        param=np.flatnonzero(updates["kind"].values == "weight"),
        step=steps <= max(steps[0], BEGINNING * steps[-1]),
    )
    square = (weights["update_norm"].astype(float) ** 2).sum("param", skipna=False)
    mean = square.values / float(weights["numel"].sum())
    usable = mean[np.isfinite(mean) & (mean > 0)]
    return float(np.exp(np.log(usable).mean() / 2)) if usable.size else float("nan")


def transfer_errors(cells: pd.DataFrame) -> dict[str, float]:
    """Return the root mean square error of predicting one alpha's accuracy from the others.

    Each alpha is left out in turn; the accuracy of the others, interpolated linearly in the
    logarithm of what is held equal and averaged, predicts it wherever at least one of them
    reaches. Both errors are over the same cells: those that can be predicted in both ways.

    Parameters
    ----------
    cells : DataFrame
        ``alpha``, ``lr``, ``step`` and ``accuracy``, one row a cell.

    Returns
    -------
    dict of str to float
        At equal ``lr`` and at equal ``step``, in units of accuracy; nan where fewer than two
        cells can be predicted in both ways.
    """
    residuals = pd.DataFrame({by: _residuals(cells, by) for by in ("lr", "step")}).dropna()
    if len(residuals) < MIN_OVERLAP:
        return {"lr": float("nan"), "step": float("nan")}
    return {by: float(np.sqrt((residuals[by] ** 2).mean())) for by in ("lr", "step")}


def _residuals(cells: pd.DataFrame, by: str) -> pd.Series:
    """Accuracy less its prediction, by row; nan where no other curve reaches."""
    usable = cells[cells[by] > 0].sort_values(by)
    curves = {
        alpha: (np.log(rows[by].to_numpy()), rows["accuracy"].to_numpy())
        for alpha, rows in usable.groupby("alpha")
    }
    found = {}
    for row in usable.itertuples():
        others = [curve for alpha, curve in curves.items() if alpha != row.alpha]
        found[row.Index] = row.accuracy - _predict(float(np.log(getattr(row, by))), others)
    return pd.Series(found, dtype=float).reindex(cells.index)


def _predict(place: float, curves: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean of the curves that reach to a place; nan where none does."""
    found = [np.interp(place, x, y) for x, y in curves if x[0] <= place <= x[-1]]
    return float(np.mean(found)) if found else float("nan")


def ridge_slope(cells: pd.DataFrame, by: str) -> float:
    """Return by how many decades the best place moves for a unit of alpha.

    The best place of an alpha is the mean of log10 ``by`` over its cells, each weighted by the
    fourth power of its accuracy above guessing, so that the top of a broad ridge counts.

    Returns
    -------
    float
        Decades per unit of alpha; nan where fewer than two alphas learned anything.
    """
    best = {}
    for alpha, rows in cells[cells[by] > 0].groupby("alpha"):
        weight = np.clip(rows["accuracy"] - rows["chance"], 0, None) ** 4
        if weight.sum() > 0:
            best[alpha] = np.average(np.log10(rows[by]), weights=weight)
    if len(best) < 2:
        return float("nan")
    return float(np.polyfit(list(best), list(best.values()), 1)[0])

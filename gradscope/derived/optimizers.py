"""Several optimizers in one recording: which of them stepped when, and which trains which row.

A row of ``/training`` belongs to the optimizers whose bit is set in ``optimizer``, in the order of
the root attribute ``optimizer_names``. Parameters of the others are missing in that row.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import xarray as xr

from gradscope.derived.select import row_dim
from gradscope.errors import UsageError, unknown

MAX_HELD = 100
"""Rows over which an optimizer's last step still stands for it; then it no longer takes part."""


def optimizer_names(tree: xr.DataTree) -> tuple[str, ...]:
    """Return the names of the optimizers, in the order of their bits; empty for a single one."""
    names = tuple(str(tree.attrs.get("optimizer_names", "")).split())
    return names if len(names) > 1 else ()


def count_classes(name: str) -> str:
    """Write each class of a root attribute ``optimizer_name`` once, with its count.

    >>> count_classes("SGD Adam Adam")
    'SGD, 2 × Adam'
    """
    counts = Counter(name.split())
    return ", ".join(f"{n} × {one}" if n > 1 else one for one, n in counts.items())


def stepped_at(tree: xr.DataTree, steps: np.ndarray) -> np.ndarray:
    """Tell which optimizers stepped in some rows.

    Parameters
    ----------
    tree : DataTree
        One recording.
    steps : ndarray, shape (n_steps,)

    Returns
    -------
    ndarray of bool, shape (n_steps, n_optimizers)
        One column for a recording of one optimizer. All true where the recording does not say.
    """
    n_optimizers = max(len(optimizer_names(tree)), 1)
    training = tree.children.get("training")
    if n_optimizers == 1 or training is None or "optimizer" not in training.data_vars:
        return np.ones((len(steps), n_optimizers), dtype=bool)
    bits = training.dataset["optimizer"].reindex(step=steps).values
    is_all = np.isnan(bits.astype(float)) | (bits == 0)
    known = np.where(is_all, -1, bits).astype(np.int64)
    return np.asarray((known[:, None] >> np.arange(n_optimizers)) % 2 == 1)


def owners(tree: xr.DataTree) -> dict[str, int]:
    """Return which optimizer trains each parameter and each layer, by its qualified name.

    An optimizer trains the parameters whose gradients are there when it steps alone. Layers go
    with their parameters; those without any, and parameters that never had a gradient, are left
    out.
    """
    node = tree.children.get("gradients")
    if len(optimizer_names(tree)) < 2 or node is None or "grad_norm" not in node.data_vars:
        return {}
    data = node.dataset["grad_norm"].transpose("step", "param").load()
    stepped = stepped_at(tree, data["step"].values)
    is_there = np.isfinite(data.values)
    shares = [is_there[own].sum(axis=0) - is_there[~own].sum(axis=0) for own in stepped.T]
    best = np.argmax(shares, axis=0)
    found = {
        str(name): int(best[i])
        for i, name in enumerate(data["param"].values)
        if is_there[:, i].any()
    }
    if "layer" in data.coords:
        layers = data["layer"].values.astype(str)
        found |= {
            layer: found[str(name)]
            for layer, name in zip(layers, data["param"].values, strict=True)
            if str(name) in found
        }
    return found


def of_optimizer(tree: xr.DataTree, data: xr.DataArray, name: str) -> xr.DataArray:
    """Keep the rows that one optimizer trains, at the steps that it took.

    Parameters
    ----------
    tree : DataTree
        One recording.
    data : DataArray, dims (step, param) or (step, layer)
    name : str
        One of `optimizer_names`.

    Raises
    ------
    UsageError
        If there is no such optimizer, or it trains none of the rows.
    """
    names = optimizer_names(tree)
    if name not in names:
        known = f"unknown optimizer {name!r}: this recording has one only"
        raise UsageError(unknown("optimizer", name, names) if names else known)
    number, dim = names.index(name), row_dim(data)
    own = owners(tree)
    chosen = np.array([own.get(str(row)) == number for row in data[dim].values], dtype=bool)
    if not chosen.any():
        raise UsageError(f"optimizer {name!r} trains none of the rows of `{data.name}`")
    stepped = stepped_at(tree, data["step"].values)[:, number]
    return data.isel({dim: chosen, "step": stepped})


def losses_apart(tree: xr.DataTree) -> dict[str, xr.DataArray]:
    """Return the training loss, split by the optimizers whose steps it belongs to.

    Parameters
    ----------
    tree : DataTree
        One recording.

    Returns
    -------
    dict of str to DataArray, dims (step,)
        ``{"loss": …}`` for one objective; else ``"loss of d"``, ``"loss of g"``, each at its own
        steps. Empty where no loss was recorded.
    """
    training = tree.children.get("training")
    if training is None or "loss" not in training.data_vars:
        return {}
    loss = training.dataset["loss"].load()
    names = np.array(optimizer_names(tree))
    stepped = stepped_at(tree, loss["step"].values)
    patterns = np.unique(stepped, axis=0)[::-1]
    if not len(names) or len(patterns) < 2:
        return {"loss": loss}
    return {
        f"loss of {' and '.join(names[own])}": loss.isel(step=(stepped == own).all(axis=1))
        for own in patterns
    }


def own_step_places(tree: xr.DataTree, data: xr.DataArray) -> np.ndarray:
    """Find, for each step and row, the step of the row's own optimizer that stands for it.

    Parameters
    ----------
    tree : DataTree
        One recording.
    data : DataArray, dims (step, row)

    Returns
    -------
    ndarray of int, shape (n_steps, n_rows)
        Place of the row's own last step, or of its first before that; the step itself where its
        optimizer stepped. −1 more than `MAX_HELD` rows away from it, where only others stepped.
    """
    here = np.arange(data.sizes["step"])
    rows = data[row_dim(data)].values
    found = np.repeat(here[:, None], len(rows), axis=1)
    own = owners(tree)
    if not own:
        return found
    stepped = stepped_at(tree, data["step"].values)
    for place, row in enumerate(rows):
        number = own.get(str(row))
        if number is None or not stepped[:, number].any():
            continue
        taken = np.flatnonzero(stepped[:, number])
        last = taken[np.maximum(np.searchsorted(taken, here, side="right") - 1, 0)]
        found[:, place] = np.where(np.abs(here - last) <= MAX_HELD, last, -1)
    return found

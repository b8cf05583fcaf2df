"""What is wrong with a run right now, in one line each."""

from __future__ import annotations

import numpy as np
import xarray as xr


def alarms(tree: xr.DataTree, window: int = 100) -> list[str]:
    """Return what should worry whoever watches, over the last rows.

    Parameters
    ----------
    tree : DataTree
        A recording, also one that is being written.
    window : int, default 100
        Rows of each group to look at.

    Returns
    -------
    list of str
        Non-finite loss or gradients, skipped steps, parameters whose gradient is exactly zero;
        empty when there is nothing to say.
    """
    found = []
    training = _last(tree, "training", window)
    if "loss" in training and np.isinf(training["loss"]).any():
        found.append("the loss was infinite")
    if "loss" in training and training.sizes["step"] and np.isnan(training["loss"][-1]):
        found.append("the last loss is NaN")
    if "is_skipped" in training:
        share = float((training["is_skipped"] == 1).mean())
        if share > 0.1:
            found.append(f"{share:.0%} of the last {training.sizes['step']} steps were skipped")
    gradients = _last(tree, "gradients", window)
    if "grad_nonfinite" in gradients:
        _name(found, gradients["grad_nonfinite"] > 0, "non-finite gradients in")
    if "grad_zero_fraction" in gradients:
        is_zero = (gradients["grad_zero_fraction"] == 1).all("step", keep_attrs=False)
        _name(found, is_zero.expand_dims("step"), "gradients are exactly zero in")
    return found


def _last(tree: xr.DataTree, group: str, window: int) -> xr.Dataset:
    if group not in tree.children:
        return xr.Dataset()
    dataset = tree[group].to_dataset()
    names = ("loss", "is_skipped", "grad_nonfinite", "grad_zero_fraction")
    return (
        dataset[[name for name in names if name in dataset]].isel(step=slice(-window, None)).load()
    )


def _name(found: list[str], is_bad: xr.DataArray, words: str) -> None:
    params = is_bad["param"].values[is_bad.any("step").values]
    if len(params):
        more = f" and {len(params) - 3} more" if len(params) > 3 else ""
        found.append(f"{words} {', '.join(params[:3])}{more}")

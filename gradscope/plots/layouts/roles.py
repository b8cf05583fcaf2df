"""Parts of a transformer: which rows belong to attention, to the MLPs, to norms."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import xarray as xr

from gradscope.derived.select import WEIGHT_KINDS, row_dim
from gradscope.errors import UsageError
from gradscope.plots.layouts.view import View, read_rows

PLACE = "place"
ROLES = ("attention", "mlp", "norm", "other")
_ATTENTION = re.compile(r"attn|attention|(^|\.)(q|k|v|o|qkv|query|key|value)(_proj)?\.")
_MLP = re.compile(
    r"mlp|ffn|feed_?forward|(^|\.)(linear[12]|fc\w*|w[123]|expand|contract|intermediate|output"
    r"|(gate|up|down)_proj|dense_\w+)\."
)
_NORM = re.compile(r"norm|(^|\.)ln_?\w*\.")


def role_of(name: str, kind: str = "", layer_type: str = "") -> str:
    """Return the role of a row by its name, and of norms by their kind.

    >>> role_of("blocks.0.attention.out.weight"), role_of("h.3.mlp.c_fc.weight")
    ('attention', 'mlp')
    >>> role_of("blocks.0.attention_norm.weight"), role_of("head.weight")
    ('norm', 'other')
    """
    text = f"{name.lower()}."
    if kind.startswith("norm") or "norm" in layer_type.lower() or _NORM.search(text):
        return "norm"
    if "attention" in layer_type.lower() or _ATTENTION.search(text):
        return "attention"
    return "mlp" if _MLP.search(text) else "other"


def read_roles(tree: xr.DataTree, view: View) -> dict[str, xr.DataArray]:
    """Read the rows of a view by role; of weights, with those of norms.

    Returns
    -------
    dict of str to DataArray
        In the order of `ROLES`; empty unless there are rows of attention and of an MLP. The
        coordinate `PLACE` says where a row stands in the network, from 0 to 1.
    """
    if view.by not in ("weight", "param", "layer"):
        return {}
    data = read_rows(tree, view)
    if not {"attention", "mlp"} <= set(_roles(data)):
        return {}
    if view.by == "weight" and "kind" in data.coords:
        try:
            data = read_rows(tree, dataclasses.replace(view, by="param"))
            kept = np.isin(data["kind"].values, (*WEIGHT_KINDS, "norm_weight"))
            data = data.isel({row_dim(data): kept})
        except UsageError:
            data = read_rows(tree, view)
    roles = np.array(_roles(data))
    dim = row_dim(data)
    data = data.assign_coords({PLACE: (dim, np.linspace(0, 1, data.sizes[dim]))})
    return {role: data.isel({dim: roles == role}) for role in ROLES if (roles == role).any()}


def united(roles: dict[str, xr.DataArray]) -> xr.DataArray:
    """Return the rows of all roles in network order."""
    parts = list(roles.values())
    return xr.concat(parts, row_dim(parts[0]), coords="minimal", compat="override").sortby(PLACE)


def _roles(data: xr.DataArray) -> list[str]:
    dim = row_dim(data)
    if data[dim].dtype.kind != "U":
        return []
    columns = [
        data[name].values.astype(str) if name in data.coords else [""] * data.sizes[dim]
        for name in ("kind", "layer_type")
    ]
    return [role_of(*row) for row in zip(data[dim].values.astype(str), *columns, strict=True)]

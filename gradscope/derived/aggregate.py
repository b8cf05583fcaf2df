"""Statistics of a layer, a stage or the whole network from those of its parameters, exactly.

Norms, means, fourth moments, counts and histograms of any union of tensors follow from those of
the tensors and their sizes. `gradscope.schema` declares for each variable how it aggregates.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradscope.derived.aggregation_rules import Unions
from gradscope.errors import UsageError, unknown


def aggregate(tree: xr.DataTree, by: str = "layer") -> xr.DataTree:
    """Aggregate every group with parameters (or layers) over a coordinate.

    Parameters
    ----------
    tree : DataTree
        A recording, or many with a dimension ``run``.
    by : str, default "layer"
        Coordinate along ``param``: ``layer``, ``stage``, ``layer_type``, ``depth``, ``kind``, …;
        ``"all"`` for the whole network.

    Returns
    -------
    DataTree
        The groups with ``param`` (or ``layer``) replaced by ``by``, in order of first appearance;
        ``numel`` adds up. Missing parameters are skipped in sums; if all are missing, the result is
        NaN. Variables that do not follow from the stored statistics are omitted, as are those of
        ``/custom`` without an attribute ``aggregation``.

    Raises
    ------
    UsageError
        If no group has the coordinate.
    """
    nodes, found = {"/": xr.Dataset(attrs=tree.attrs)}, set()
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        dim = next((d for d in ("param", "layer") if d in dataset.dims), None)
        if dim is None or node.name in ("training", "evaluation"):
            continue
        found |= {str(name) for name, c in dataset.coords.items() if dim in c.dims} - {dim}
        if by == "all" or by in dataset.coords:
            unions = Unions(tree, node.path.rpartition("/")[0], dataset, dim, by)
            nodes[node.path] = _aggregated(unions)
    if len(nodes) == 1:
        raise UsageError(unknown("coordinate", by, found | {"all"}))
    return xr.DataTree.from_dict(nodes)


def _aggregated(unions: Unions) -> xr.Dataset:
    """Return a group with every variable that follows."""
    variables = {}
    for key, values in unions.dataset.data_vars.items():
        name = str(key)
        found = unions.aggregated(name) if unions.dim in values.dims else values
        if found is not None:
            variables[name] = found
    return xr.Dataset(variables).assign_coords(_coordinates(unions))


def _coordinates(unions: Unions) -> dict[str, xr.Variable]:
    """Keep coordinates that all members of each union share; sizes add up."""
    kept: dict[str, xr.Variable] = {}
    for name, values in unions.dataset.coords.items():
        if values.dims == (unions.dim,) and name not in (unions.dim, unions.by, "numel"):
            parts = [values.values[columns] for columns in unions.columns]
            if all((part == part[0]).all() for part in parts):
                kept[str(name)] = xr.Variable(unions.by, [part[0] for part in parts])
    if "numel" in unions.dataset.coords:
        kept["numel"] = unions.total(unions.numel).astype(np.int64).variable
    return kept

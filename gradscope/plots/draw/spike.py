"""The full-rate rows that the flight recorder kept around an event."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from gradscope.derived.select import quantities
from gradscope.errors import UsageError
from gradscope.plots.draw.heatmap import heatmap
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.view import Picture, View, read_rows


def spike(tree: xr.DataTree, view: View) -> Picture:
    """Draw the rows around the first event of the flight recorder in the chosen steps."""
    event = int(_events(tree, view)[0])
    recorded = tree["spikes"]
    groups = {f"/{name}": node.to_dataset() for name, node in recorded.children.items()}
    around = xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), **groups})
    if "training" not in recorded.children and "training" in tree.children:
        around["training"] = tree["training"]
    rows = View(quantity=view.quantity, by=view.by, layers=view.layers)
    near = _around(groups, event)
    is_there = near.size and quantities(around)
    steps = read_rows(around, rows)["step"].values if is_there else near[:0]
    near = steps[np.isin(steps, near)]
    if not near.size:
        raise UsageError(
            f"the rows of `{view.quantity}` around the event at step {event} were not recorded"
        )
    chosen = View(**{**vars(view), "steps": (int(near.min()), int(near.max()))})
    picture = heatmap(around, chosen)
    for ax in picture.figure.axes[:3:2]:
        ax.axvline(event, color="C1", linewidth=0.8)
    words = f"Event at step {event}. {picture.description}"
    return Picture(picture.figure, picture.data, words)


def _events(tree: xr.DataTree, view: View) -> np.ndarray:
    node = tree.children.get("spikes")
    if node is None or not (node.children or "event" in node.coords):
        raise UsageError(
            "this recording has no spikes: the flight recorder was off, or never fired"
        )
    events = node.dataset["event"].values if "event" in node.dataset.coords else np.zeros(0, int)
    first, last = view.steps
    low, high = -np.inf if first is None else first, np.inf if last is None else last
    events = events[(events >= low) & (events <= high)]
    if events.size == 0:
        raise UsageError("the flight recorder did not fire in the steps that were asked for")
    return events


def _around(groups: Mapping[str, xr.Dataset], event: int) -> np.ndarray:
    """Return the steps around an event without a gap; none where its own step has no row.

    Of all groups together: a group has no row at a step that was skipped.
    """
    known = [data["step"].values for data in groups.values() if "step" in data.coords]
    steps = np.unique(np.concatenate([np.zeros(0, int), *known]))
    parts = np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)
    return next((part for part in parts if event in part), np.zeros(0, int))


KIND = Kind(
    name="spike",
    summary="a quantity by layer and step around an event of the flight recorder",
    of_one=spike,
    of_quantity=True,
)

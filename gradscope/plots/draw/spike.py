"""The full-rate rows that the flight recorder kept around an event."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradscope.errors import UsageError
from gradscope.plots.draw.heatmap import heatmap
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.view import Picture, View, read_rows


def spike(tree: xr.DataTree, view: View) -> Picture:
    """Draw the rows around the first event of the flight recorder in the chosen steps."""
    events = _events(tree, view)
    recorded = tree["spikes"]
    groups = {f"/{name}": node.to_dataset() for name, node in recorded.children.items()}
    around = xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), **groups})
    if "training" not in recorded.children and "training" in tree.children:
        around["training"] = tree["training"]
    steps = read_rows(around, View(quantity=view.quantity, by=view.by, layers=view.layers))["step"]
    event = int(events[0])
    near = steps.values[np.abs(steps.values - event) <= _reach(steps.values, event)]
    chosen = View(**{**vars(view), "steps": (int(near.min()), int(near.max()))})
    picture = heatmap(around, chosen)
    for ax in picture.figure.axes[:3:2]:
        ax.axvline(event, color="C1", linewidth=0.8)
    words = f"Event at step {event}. {picture.description}"
    return Picture(picture.figure, picture.data, words)


def _events(tree: xr.DataTree, view: View) -> np.ndarray:
    if "spikes" not in tree.children or not tree["spikes"].children:
        raise UsageError(
            "this recording has no spikes: the flight recorder was off, or never fired"
        )
    node = tree["spikes"]
    events = node.dataset["event"].values if "event" in node.dataset.coords else np.zeros(0, int)
    first, last = view.steps
    low, high = -np.inf if first is None else first, np.inf if last is None else last
    events = events[(events >= low) & (events <= high)]
    if events.size == 0:
        raise UsageError("the flight recorder did not fire in the steps that were asked for")
    return events


def _reach(steps: np.ndarray, event: int) -> int:
    """Return the distance to which the rows around an event have no gap."""
    order = np.sort(np.abs(steps - event))
    breaks = np.flatnonzero(np.diff(order) > 1)
    return int(order[breaks[0]] if breaks.size else order[-1])


KIND = Kind(
    name="spike",
    summary="a quantity by layer and step around an event of the flight recorder",
    of_one=spike,
    of_quantity=True,
)

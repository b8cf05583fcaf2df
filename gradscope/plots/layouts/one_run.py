"""Layouts of one recording: panels, sizes in mm and titles around the draw functions."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradscope.derived.select import row_dim
from gradscope.errors import UsageError
from gradscope.plots.axes.style import new_figure
from gradscope.plots.draw.curves import draw_curve
from gradscope.plots.draw.effective_lr import draw_effective_lr
from gradscope.plots.draw.heatmap import draw_heatmap
from gradscope.plots.draw.histogram import draw_histogram
from gradscope.plots.draw.profile import draw_profile
from gradscope.plots.draw.trajectories import draw_trajectories
from gradscope.plots.layouts.view import Picture, View, as_table, describe, read_rows, run_title

ROW_MM, LOSS_MM, FRAME_MM = 3.4, 11.0, 14.0
MAP_MM = (22.0, 120.0)


def heatmap(tree: xr.DataTree, view: View) -> Picture:
    """Layer by step, the loss above on the same step axis."""
    data = read_rows(tree, view)
    figure, top, ax, cax = _map_panels(tree, data, view)
    draw_heatmap(data, ax=ax, cax=cax, step_scale=view.step_scale)
    _align(top, ax)
    _mark_first_nonfinite(tree, top, ax)
    return Picture(figure, as_table(data), describe(data, "Heatmap", run_title(tree)))


def map_height(data: xr.DataArray, view: View) -> float:
    """Height of a map in mm: enough for its rows to be named, and never more than half a page."""
    rows = data.sizes[row_dim(data)] * ROW_MM
    return float(np.clip(rows, *MAP_MM)) * view.magnification


def _map_panels(
    tree: xr.DataTree, data: xr.DataArray, view: View, *, rows_mm: float | None = None
) -> tuple[Figure, Axes, Axes, Axes]:
    """Make the panels of a map: loss above, colour bar beside; draw the loss where there is one."""
    rows = map_height(data, view) if rows_mm is None else rows_mm * view.magnification
    loss = loss_between(tree, data["step"].values)
    above = LOSS_MM * view.magnification if loss is not None else 0.5
    figure = new_figure(view.width_mm, rows + above + FRAME_MM * view.magnification)
    axes = figure.subplots(
        2, 2, width_ratios=[1, 0.028], height_ratios=[above, rows], squeeze=False
    )
    top = axes[0, 0]
    axes[0, 1].axis("off")
    top.set_title(view.titled(run_title(tree)))
    if loss is None:
        top.axis("off")
    else:
        draw_curve(loss, ax=top, label="loss")
    return figure, top, axes[1, 0], axes[1, 1]


def _align(top: Axes, ax: Axes) -> None:
    """Give the curve above the step axis of the map below."""
    top.set_xscale(ax.get_xscale())
    top.set_xlim(ax.get_xlim())
    top.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    top.spines["bottom"].set_visible(False)


def profile(tree: xr.DataTree, view: View) -> Picture:
    """Against depth, at a few steps."""
    data = read_rows(tree, view)
    figure = new_figure(view.width_mm, min(0.65 * view.width_mm, 90.0 * view.magnification))
    ax = figure.add_subplot()
    ax.set_title(view.titled(run_title(tree)))
    draw_profile(data, ax=ax)
    return Picture(figure, as_table(data), describe(data, "Profile", run_title(tree)))


def trajectories(tree: xr.DataTree, view: View) -> Picture:
    """Against steps, a line a layer."""
    data = read_rows(tree, view)
    figure, _ = _line_panels(tree, data, view)
    return Picture(figure, as_table(data), describe(data, "Trajectories", run_title(tree)))


def update_ratio(tree: xr.DataTree, view: View) -> Picture:
    """Relative updates with the line at 0.001, a common rule of thumb for a fair learning rate."""
    data = read_rows(tree, view, "update_ratio")
    figure, ax = _line_panels(tree, data, view)
    ax.axhline(1e-3, color="0.3", linestyle="--", linewidth=0.7, zorder=0)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 5e-4), max(high, 2e-3))
    return Picture(figure, as_table(data), describe(data, "Trajectories", run_title(tree)))


def _line_panels(tree: xr.DataTree, data: xr.DataArray, view: View) -> tuple[Figure, Axes]:
    figure = new_figure(view.width_mm, min(0.65 * view.width_mm, 110.0 * view.magnification))
    ax, cax = figure.subplots(1, 2, width_ratios=[1, 0.03])
    ax.set_title(view.titled(run_title(tree)))
    draw_trajectories(data, ax=ax, cax=cax, step_scale=view.step_scale)
    return figure, ax


def histogram(tree: xr.DataTree, view: View) -> Picture:
    """Share of gradient entries by magnitude and step, of the chosen parameters together."""
    counts = _histogram(tree, "grad_histogram", view)
    zeros = _histogram(tree, "grad_histogram_zero", view)
    names = counts["param"].values.astype(str)
    figure, top, ax, cax = _map_panels(tree, counts, view, rows_mm=45)
    draw_histogram(counts.sum("param"), zeros=zeros.sum("param"), ax=ax, cax=cax)
    _align(top, ax)
    which = names[0] if len(names) == 1 else f"{len(names)} parameters"
    top.set_title(view.titled(f"{run_title(tree)} · {which}"))
    table = as_table(counts.sum("param"))
    return Picture(figure, table, f"Histogram of gradient magnitudes over steps, of {which}.")


def effective_lr(tree: xr.DataTree, view: View) -> Picture:
    """What each of several alphas would make of the second moments at the last recorded step."""
    counts = _histogram(tree, "exp_avg_sq_histogram", view).isel(step=-1).sum("param")
    lr = float(np.nanmax(tree["training"].dataset["lr"].sel(step=counts["step"]).values))
    figure = new_figure(view.width_mm, min(0.65 * view.width_mm, 90.0 * view.magnification))
    ax = figure.add_subplot()
    step = int(counts["step"])
    ax.set_title(view.titled(f"{run_title(tree)} · step {step:,}"))
    draw_effective_lr(counts, lr=lr, alphas=view.alphas, ax=ax)
    words = ", ".join(f"{alpha:g}" for alpha in view.alphas)
    return Picture(
        figure, as_table(counts), f"Distribution of lr / v^alpha at step {step} for alpha {words}."
    )


def _histogram(tree: xr.DataTree, name: str, view: View) -> xr.DataArray:
    """Read the counts of the parameters and steps that a view chooses."""
    if "histograms" not in tree.children or name not in tree["histograms"].data_vars:
        raise UsageError(f"this recording has no `{name}`: record the group `histograms`")
    choice = View(quantity="grad_norm", by=view.by, layers=view.layers)
    params = read_rows(tree, choice)["param"].values
    data = tree["histograms"].dataset[name].sel(param=params)
    first, last = view.steps
    data = data.sel(step=slice(first, last)).load()
    if data.sizes["step"] == 0:
        raise UsageError("no histogram was recorded in the steps that were asked for")
    return data.where(data >= 0)


def spike(tree: xr.DataTree, view: View) -> Picture:
    """The full-rate rows around an event of the flight recorder; choose one with the steps."""
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
    """How far the rows around an event go without a break."""
    order = np.sort(np.abs(steps - event))
    breaks = np.flatnonzero(np.diff(order) > 1)
    return int(order[breaks[0]] if breaks.size else order[-1])


def loss_between(tree: xr.DataTree, steps: np.ndarray) -> xr.DataArray | None:
    """Return the loss over the steps that are drawn; None where there is none."""
    training = tree.children.get("training")
    if training is None or "loss" not in training.data_vars:
        return None
    loss = training.dataset["loss"].sel(step=slice(steps[0], steps[-1])).load()
    return loss if np.isfinite(loss.values).any() else None


def _mark_first_nonfinite(tree: xr.DataTree, *axes: Axes) -> None:
    step = int(tree.attrs.get("first_nonfinite_step", -1))
    low, high = axes[-1].get_xlim()
    if low <= step <= high:
        for ax in axes:
            ax.axvline(step, color="C1", linewidth=0.8)
        axes[0].annotate(
            "first non-finite gradient ",
            (step, 1),
            xycoords=("data", "axes fraction"),
            color="C1",
            ha="right",
            va="top",
            fontsize="small",
        )

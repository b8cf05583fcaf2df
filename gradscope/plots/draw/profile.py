"""A quantity against depth, at chosen steps."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradscope.derived.cells import NONFINITE, NUMBER, states_of
from gradscope.derived.select import row_dim
from gradscope.plots.axes.labels import (
    fit_label,
    mark_nonfinite,
    note_undrawn,
    quantity_label,
)
from gradscope.plots.axes.names import short_names
from gradscope.plots.axes.scales import declared_kind, format_values, scale_of
from gradscope.plots.axes.style import new_figure
from gradscope.plots.layouts.bands import draw_bands
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.panels import one_legend
from gradscope.plots.layouts.roles import read_roles, united
from gradscope.plots.layouts.run_names import name_conditions
from gradscope.plots.layouts.view import Picture, View, as_table, describe, read_rows, run_title

N_STEPS = 5
STYLE_NAMES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dash-dotted"}
STYLES = tuple(STYLE_NAMES)


def profile_steps(steps: np.ndarray) -> np.ndarray:
    """Choose the first and the last step, and some between, evenly spaced in log step."""
    wanted = np.geomspace(max(steps[0], 1), max(steps[-1], 1), N_STEPS)
    nearest = np.abs(steps[:, None] - wanted[None, :]).argmin(axis=0)
    return np.asarray(steps[np.unique(nearest)])


def draw_profile(
    data: xr.DataArray, *, ax: Axes | None = None, at: Sequence[int] | None = None
) -> list[Line2D]:
    """Draw one line per step, from the input on the left to the output on the right.

    Parameters
    ----------
    data : DataArray, dims (step, param) or (step, layer)
        The coordinate ``depth`` places the rows when no two share one; else their order does.
    ax : Axes, optional
        Where to draw; by default a new figure.
    at : sequence of int, optional
        Steps; the nearest recorded ones are drawn. By default five, evenly spaced in log step.

    Returns
    -------
    list of Line2D
        From the first step, dark, to the last, light.
    """
    ax = Figure(layout="constrained").add_subplot() if ax is None else ax
    chosen = profile_steps(data["step"].values) if at is None else np.asarray(at)
    part = data.sel(step=chosen, method="nearest")
    states = states_of(part)
    values = np.where(states == NUMBER, np.asarray(part.values, dtype=float), np.nan)
    scale = scale_of(values, declared_kind(data))
    place, label = _place(data)
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(values)))
    marker = "o" if len(place) <= 40 else ""
    if scale.kind == "log":
        values = np.where(values > 0, values, np.nan)
        ax.set_yscale("log")
    lines = []
    for row, step, color in zip(values, part["step"].values, colors, strict=True):
        lines += ax.plot(place, row, marker=marker, color=color, label=f"{step:,}")
    format_values(ax.yaxis, scale)
    ax.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    if len(place) == 1:
        ax.set_xlim(place[0] - 0.5, place[0] + 0.5)
    ax.set_xlabel(label)
    ax.set_ylabel(quantity_label(data))
    fit_label(ax)
    is_nonfinite = (states == NONFINITE).any(axis=0)
    note_undrawn(ax, np.isnan(values).all(axis=0) & ~is_nonfinite)
    mark_nonfinite(ax, np.asarray(place)[is_nonfinite])
    ax.legend(title="step", title_fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))
    return lines


def _place(data: xr.DataArray) -> tuple[np.ndarray, str]:
    """Return the place of each row on the x axis, and the label of that axis."""
    depth = data["depth"].values if "depth" in data.coords else np.zeros(0)
    if depth.size and len(np.unique(depth)) == len(depth):
        return depth, "depth (weight layers from the input)"
    rows = next(size for dim, size in data.sizes.items() if dim != "step")
    return np.arange(rows), "row in network order"


def profile(tree: xr.DataTree, view: View) -> Picture:
    """Draw a quantity against depth at a few steps; of a transformer, one panel per role."""
    roles = read_roles(tree, view)
    if roles:
        return _profile_by_role(tree, view, roles)
    data = read_rows(tree, view)
    figure = new_figure(view.width_mm, min(0.65 * view.width_mm, 90.0 * view.magnification))
    ax = figure.add_subplot()
    ax.set_title(view.titled(run_title(tree)))
    draw_profile(data, ax=ax)
    return Picture(figure, as_table(data), describe(data, "Profile", run_title(tree)))


def _profile_by_role(tree: xr.DataTree, view: View, roles: dict[str, xr.DataArray]) -> Picture:
    """Draw the rows of each role side by side, on one scale."""
    figure = new_figure(view.page_mm, 0.36 * view.page_mm)
    figure.suptitle(run_title(tree), x=0.01, ha="left", fontsize="medium")
    axes = figure.subplots(1, len(roles), sharey=True, squeeze=False)[0]
    label = _place(next(iter(roles.values())))[1]
    for ax, (role, data) in zip(axes, roles.items(), strict=True):
        _draw_role(role, data, ax)
        ax.set_xlabel("")
        if ax is not axes[0]:
            ax.set_ylabel("")
    figure.supxlabel(label, fontsize="medium")
    one_legend(list(axes))
    whole = united(roles)
    format_values(axes[0].yaxis, scale_of(whole.values, declared_kind(whole)))
    words = f"Profiles by role ({', '.join(roles)})"
    return Picture(figure, as_table(whole), describe(whole, words, run_title(tree)))


def _draw_role(role: str, data: xr.DataArray, ax: Axes) -> None:
    """Draw one line per kind of layer; the title names their styles."""
    dim = row_dim(data)
    names = data[dim].values.astype(str)
    kinds = np.array([re.sub(r"\.\d+(?=\.)", "", name) for name in names])
    several = [kind for kind in dict.fromkeys(kinds.tolist()) if (kinds == kind).sum() > 1]
    styles = dict(zip(several, STYLES, strict=False))
    for kind in dict.fromkeys(kinds.tolist()):
        for line in draw_profile(data.isel({dim: kinds == kind}), ax=ax):
            line.set_linestyle(styles.get(kind, "-"))
            line.set_marker("" if kind in styles and len(names) > 12 else "o")
    handles, labels = ax.get_legend_handles_labels()
    first = dict(zip(reversed(labels), reversed(handles), strict=True))
    steps = list(dict.fromkeys(labels))
    ax.legend([first[label] for label in steps], steps, title="step", title_fontsize="small")
    words = [
        f"{STYLE_NAMES[style]} {name}"
        for name, style in zip(short_names(list(styles)), styles.values(), strict=True)
    ]
    ax.set_title(textwrap.fill(f"{role}: {', '.join(words)}" if len(words) > 1 else role, 30))


def profiles(tree: xr.DataTree, view: View) -> Picture:
    """Draw a quantity against depth at three steps, with 95 % bands over three seeds and more."""
    data = read_rows(tree, view)
    steps = profile_steps(data["step"].values)[
        [0, len(profile_steps(data["step"].values)) // 2, -1]
    ]
    table = as_table(data.sel(step=np.unique(steps)))
    dim = str(table.columns[2])
    is_relative = row_dim(data) == "relative_depth"
    places, label = _place(data.isel(run=0))
    where = dict(zip(data[dim].values.tolist(), places, strict=True))
    table["depth"] = table[dim] if is_relative else table[dim].map(where)
    (table,) = name_conditions(tree, table)
    figure = new_figure(view.page_mm, 0.33 * view.page_mm)
    axes = figure.subplots(1, len(np.unique(steps)), sharey=True, squeeze=False)[0]
    for ax, step in zip(axes, np.unique(steps), strict=True):
        part = table[table["step"] == step]
        draw_bands(
            part,
            "depth",
            str(data.name),
            ax=ax,
            label=quantity_label(data),
            scale=scale_of(data.values, declared_kind(data)),
        )
        ax.set_title(f"step {step:,}")
        ax.xaxis.set_major_locator(MaxNLocator(7, integer=not is_relative))
        ax.set_xlabel("")
    words = "relative depth (input\u00a0→\u00a0output)" if is_relative else label
    axes[len(axes) // 2].set_xlabel(words)
    one_legend(figure.axes)
    return Picture(figure, table, describe(data.isel(run=0), "Profiles", run_title(tree)))


KIND = Kind(
    name="profile",
    summary="a quantity against depth, at a few steps",
    of_one=profile,
    of_many=profiles,
    of_quantity=True,
)

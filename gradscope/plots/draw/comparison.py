"""Comparison of conditions with the first: loss, final metrics, and maps of differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patheffects import withStroke

from gradscope import schema
from gradscope.derived.compare.metrics import FinalMetric
from gradscope.derived.compare.result import Comparison, EffectMap
from gradscope.derived.compare.text import LETTERS
from gradscope.errors import UsageError
from gradscope.plots.axes.labels import along_dim, quantity_label
from gradscope.plots.axes.scales import Scale, effect_scale
from gradscope.plots.axes.step_axis import format_steps
from gradscope.plots.axes.style import figure_style, new_figure
from gradscope.plots.draw.heatmap import draw_heatmap, draw_key, fit_labels
from gradscope.plots.layouts.bands import draw_bands, metric_label
from gradscope.plots.layouts.panels import FRAME_MM, legend_columns, map_height
from gradscope.plots.layouts.view import Picture, View

MAX_MAPS = 5
N_BINS = 50
ABOVE_MM, STRIP_MM = 38.0, 7.0


def draw_comparison(comparison: Comparison, tree: xr.DataTree, view: View | None = None) -> Picture:
    """Draw a comparison as one figure.

    Parameters
    ----------
    comparison : Comparison
        From `gradscope.compare_runs`.
    tree : DataTree
        The runs that were compared; their training loss stands above.
    view : View, optional
        Size, look and step axis; a page wide by default.

    Returns
    -------
    Picture
        The figure, the cells of its maps, and what it shows in words.

    Raises
    ------
    UsageError
        If there are more conditions than maps that fit.
    """
    view = View(quantity=comparison.quantity, width="page") if view is None else view
    if len(comparison.maps) > MAX_MAPS:
        raise UsageError(
            f"at most {MAX_MAPS + 1} conditions fit in a figure; got {len(comparison.conditions)}. "
            f"The runs differ in {', '.join(comparison.settings)}: group by some of these, or "
            "give fewer"
        )
    with figure_style(view.style):
        rows_mm = map_height(comparison.maps[0].effect, view)
        above = ABOVE_MM * view.magnification
        below = rows_mm + (FRAME_MM + STRIP_MM + 3) * view.magnification
        figure = new_figure(view.width_mm, above + below)
        parts = figure.subfigures(2, 1, height_ratios=[above, below], squeeze=False)[:, 0]
        _draw_metrics(comparison, tree, parts[0])
        _draw_maps(comparison, parts[1], view, rows_mm=rows_mm)
        figure.draw_without_rendering()
    return Picture(figure, comparison_table(comparison), _describe(comparison))


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """Return the cells of all maps, one row a cell: the effect, the factor it means, and its p."""
    tables = []
    for one in comparison.maps:
        axis, row = (str(dim) for dim in one.effect.dims)
        table = one.effect.rename("effect").reset_coords(drop=True).to_dataframe().reset_index()
        if comparison.is_ratio:
            table = table.rename(columns={"effect": "log_ratio"})
            table["ratio"] = np.exp(table["log_ratio"])
        if one.p_value is not None:
            table["p_value"] = one.p_value.transpose(axis, row).values.ravel()
        tables.append(
            table.assign(condition=one.condition.name, against=comparison.conditions[0].name)
        )
    return pd.concat(tables, ignore_index=True)


def symbol_name(name: str) -> str:
    """Write the name of a condition as in print.

    >>> symbol_name("alpha = -0.1, lr = 0.1")
    'α = −0.1, lr = 0.1'
    """
    return name.replace("alpha = ", "α = ").replace("= -", "= −")


def _draw_metrics(comparison: Comparison, tree: xr.DataTree, figure: SubFigure) -> None:
    """Draw the training loss and up to two final metrics, a colour a condition."""
    metrics = _shown_metrics(comparison)
    table = loss_table(tree, comparison)
    n_panels = len(metrics) + (not table.empty)
    if not n_panels:
        return
    axes = figure.subplots(1, n_panels, squeeze=False)[0]
    for ax, metric in zip(axes[n_panels - len(metrics) :], metrics, strict=True):
        draw_metric_by_condition(
            [one for one in comparison.final_metrics if one.metric == metric], ax=ax
        )
    if table.empty:
        return
    values = table["loss"]
    is_log = values.min() > 0 and values.max() > 20 * values.min()
    scale = Scale("log", float(values.min()), float(values.max())) if is_log else None
    draw_bands(table, "step", "loss", ax=axes[0], label="training loss", scale=scale)
    format_steps(axes[0], is_log=False)
    legend = axes[0].get_legend()
    handles = axes[0].get_legend_handles_labels() if legend is not None else ([], [])
    if legend is not None:
        n_columns, _ = legend_columns(legend)
        legend.remove()
        figure.legend(*handles, loc="outside upper left", ncols=n_columns)


def _shown_metrics(comparison: Comparison) -> list[str]:
    known = list(dict.fromkeys(one.metric for one in comparison.final_metrics))
    accuracies = [name for name in known if schema.declaration(name).scale == "share"]
    others = [name for name in known if name not in accuracies and name != "loss"]
    return accuracies[:1] + others[:1] if accuracies else others[:2]


def loss_table(tree: xr.DataTree, comparison: Comparison) -> pd.DataFrame:
    """Return the training loss of every run, the mean of each of a few equal stretches of steps."""
    node = tree.children.get("training")
    if node is None or "loss" not in node.data_vars:
        return pd.DataFrame(columns=["step", "loss", "run is"])
    loss = node.dataset["loss"].transpose("run", "step").values.astype(float)
    steps = node.dataset["step"].values.astype(float)
    edges = np.linspace(steps[0], steps[-1] + 1, min(N_BINS, len(steps)) + 1)
    place = np.digitize(steps, edges) - 1
    tables = []
    for letter, condition in zip(LETTERS, comparison.conditions, strict=False):
        for run in condition.runs:
            own = pd.DataFrame(
                {"step": (edges[place] + edges[place + 1] - 1) / 2, "loss": loss[run]}
            )
            own = own[np.isfinite(own["loss"])].groupby("step", as_index=False).mean()
            tables.append(own.assign(**{"run is": f"{letter}: {symbol_name(condition.name)}"}))
    return pd.concat(tables, ignore_index=True)


def draw_metric_by_condition(metrics: list[FinalMetric], *, ax: Axes) -> None:
    """Draw a final metric: a dot a run, the mean over runs with its interval beside them."""
    for place, one in enumerate(metrics):
        color = f"C{place}"
        known = [value for value in one.values if np.isfinite(value)]
        ax.plot(
            [place - 0.15] * len(known),
            known,
            "o",
            color=color,
            markersize=2,
            alpha=0.5,
            markeredgewidth=0,
        )
        if known:
            error = None if np.isnan(one.low) else [[one.mean - one.low], [one.high - one.mean]]
            ax.errorbar([place + 0.1], [one.mean], yerr=error, fmt="o", color=color, capsize=2)
    ax.set_xticks(range(len(metrics)), [LETTERS[place] for place in range(len(metrics))])
    ax.set_xlim(-0.6, len(metrics) - 0.4)
    ax.set_ylabel(metric_label(metrics[0].metric))


def _draw_maps(comparison: Comparison, figure: SubFigure, view: View, *, rows_mm: float) -> None:
    """Draw the maps side by side with one scale, and above each where it is outside the band."""
    n_maps = len(comparison.maps)
    axes = figure.subplots(
        2,
        n_maps + 1,
        width_ratios=[1.0] * n_maps + [0.03 * n_maps],
        squeeze=False,
        height_ratios=[STRIP_MM * view.magnification, rows_mm],
    )
    axes[0, -1].axis("off")
    values = np.concatenate([one.effect.values.ravel() for one in comparison.maps])
    scale = effect_scale(values, is_ratio=comparison.is_ratio)
    sign = "/" if comparison.is_ratio else "−"
    maps = []
    for number, one in enumerate(comparison.maps):
        strip, ax = axes[0, number], axes[1, number]
        words = f"{LETTERS[number + 1]} {sign} A: {symbol_name(one.condition.name)}"
        words += f" against {symbol_name(comparison.conditions[0].name)}"
        strip.set_title(view.titled(words, n_panels=n_maps))
        drawn = draw_heatmap(
            one.effect,
            ax=ax,
            scale=scale,
            step_scale=view.step_scale,
            has_key=False,
            missing=_missing_word(comparison),
            fits=False,
        )
        maps.append(drawn)
        _mark_first(one, ax)
        _draw_outside(comparison, one, strip, ax, view)
        if number:
            ax.set_ylabel("")
            ax.tick_params(axis="y", which="both", labelleft=False)
            strip.set_ylabel("")
    name = quantity_label(comparison.maps[0].effect)
    label = f"{name}, ratio" if comparison.is_ratio else f"{name}, difference"
    key = comparison.maps[0].effect.assign_attrs(long_name=label, units="1")
    fit_labels(maps, draw_key(maps[-1].mesh, key, scale, ax=ax, cax=axes[1, -1]))


def _missing_word(comparison: Comparison) -> str:
    return "missing or zero" if comparison.is_ratio else "missing"


def _mark_first(one: EffectMap, ax: Axes) -> None:
    """Ring the first cell outside the seed band."""
    if one.first is not None:
        ax.plot(
            one.first.at,
            one.first.row,
            "o",
            markersize=6,
            markerfacecolor="none",
            markeredgecolor="black",
            clip_on=False,
            zorder=4,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )


def _draw_outside(
    comparison: Comparison, one: EffectMap, strip: Axes, ax: Axes, view: View
) -> None:
    """Draw the share of layers outside the seed band; or say why there is none."""
    strip.set_xscale(ax.get_xscale())
    strip.set_xlim(ax.get_xlim())
    strip.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    if one.p_value is None:
        strip.axis("off")
        strip.text(
            0,
            0.4,
            view.titled(_in_letters(comparison, one.note), n_panels=len(comparison.maps)),
            transform=strip.transAxes,
            fontsize="small",
            color="0.35",
            va="center",
            in_layout=False,
        )
        return
    level = (1 - comparison.confidence) / len(comparison.maps)
    axis, row = along_dim(one.effect), str(one.effect.dims[1])
    p = one.p_value.transpose(axis, row).values
    n_tested = np.isfinite(p).sum(axis=1)
    n_outside = (p <= level * (1 + 1e-9)).sum(axis=1)
    share = np.divide(n_outside, n_tested, where=n_tested > 0, out=np.full(len(p), np.nan))
    strip.fill_between(one.effect[axis].values, share, step="mid", color="0.35", linewidth=0)
    strip.set_ylim(0, 1)
    strip.set_yticks([0, 1])
    strip.set_ylabel("outside\nseeds", rotation=0, ha="right", va="center", fontsize="small")


def _in_letters(comparison: Comparison, words: str) -> str:
    """Put the letters of the conditions, which the legend explains, for their names."""
    letters = {c.name: letter for c, letter in zip(comparison.conditions, LETTERS, strict=False)}
    for name in sorted(letters, key=len, reverse=True):
        words = words.replace(name, letters[name])
    return words


def _describe(comparison: Comparison) -> str:
    conditions = "; ".join(
        f"{letter}, {condition.name}, {len(condition.runs)} runs"
        for letter, condition in zip(LETTERS, comparison.conditions, strict=False)
    )
    first = "; ".join(
        f"{one.condition.name}: {one.note}"
        if one.first is None
        else f"{one.condition.name} first outside the seed band at {comparison.axis} "
        f"{one.first.at:g}, {one.first.layer}"
        for one in comparison.maps
    )
    return (
        f"Comparison of {quantity_label(comparison.maps[0].effect)} between {conditions}. Above, "
        f"training loss and final metrics; below, maps of what differs by layer and "
        f"{comparison.axis}. {first}."
    )

"""What is asked of a figure, and what it turns into."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from gradscope.derived.cells import NONFINITE, NUMBER, select_cells, states_of
from gradscope.derived.optimizers import count_classes
from gradscope.derived.select import not_shown, row_dim
from gradscope.errors import UsageError
from gradscope.plots.axes.labels import quantity_label
from gradscope.plots.axes.scales import signed
from gradscope.plots.axes.style import width_mm

WHOLE_RUN: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True)
class View:
    """What to draw of one or many recordings: options of `select_cells`, the size, the look."""

    quantity: str = "grad_norm"
    kind: str = "heatmap"
    by: str = "weight"
    layers: str | None = None
    steps: tuple[int | None, int | None] = WHOLE_RUN
    step_scale: str = "auto"
    optimizer: str | None = None
    alphas: tuple[float, ...] = (-0.3, -0.1, 0.0, 0.1, 0.5)
    width: str | float = "column"
    style: str = "paper"

    @property
    def width_mm(self) -> float:
        """Width of the figure in mm."""
        return width_mm(self.width, style=self.style)

    @property
    def page_mm(self) -> float:
        """Width of a figure of several panels in mm: a page unless another width was asked for."""
        return width_mm("page" if self.width == View().width else self.width, style=self.style)

    @property
    def magnification(self) -> float:
        """How much larger than in print everything is in this style."""
        return width_mm("column", style=self.style) / width_mm("column")

    def titled(self, title: str, *, n_panels: int = 1) -> str:
        """Break a title into lines that fit above a panel."""
        # A letter of 6 pt takes 1.2 mm, and labels and colour bar a quarter of the width.
        n_letters = int(0.62 * self.width_mm / self.magnification / n_panels)
        return textwrap.fill(title, max(n_letters, 12))


@dataclass(frozen=True)
class Picture:
    """A figure with the numbers that it shows and the words for who cannot see it."""

    figure: Figure
    data: pd.DataFrame
    description: str


def read_rows(tree: xr.DataTree, view: View, quantity: str | None = None) -> xr.DataArray:
    """Read the numbers that a view shows.

    Raises
    ------
    UsageError
        If there are none.
    """
    name = view.quantity if quantity is None else quantity
    data = select_cells(
        tree,
        name,
        by=view.by,
        layers=view.layers,
        steps=view.steps,
        optimizer=view.optimizer,
    )
    if (states_of(data) < NUMBER).all():
        hint = _elsewhere(tree, view, name) if view.by == "weight" and "param" in data.dims else ""
        raise UsageError(f"`{name}` is missing at every step that was asked for{hint}")
    return data


def _elsewhere(tree: xr.DataTree, view: View, name: str) -> str:
    """Say where numbers are if the weights of layers have none, as in copies that train instead."""
    found = select_cells(
        tree, name, by="param", layers=view.layers, steps=view.steps, optimizer=view.optimizer
    )
    is_there = (states_of(found) == NUMBER).any()
    return "; parameters that are no weights of layers have it, see --by param" if is_there else ""


def run_title(tree: xr.DataTree) -> str:
    """Say in one line which run this is; alpha belongs to SMES alone."""
    names = [str(tree.attrs.get(key, "")) for key in ("run_name", "model_name", "dataset_name")]
    optimizers = count_classes(str(tree.attrs.get("optimizer_name", "")))
    words = [word for word in (*names, optimizers) if word]
    training = tree.children.get("training")
    is_smes = tree.attrs.get("optimizer_name") == "SMES" and "run" not in tree.dims
    if training is not None and "alpha" in training.data_vars and is_smes:
        known = np.unique(training.dataset["alpha"].values)
        known = known[np.isfinite(known)]
        if known.size == 1:
            words.append(f"α = {signed(known[0])}")
    if "seed" in tree.attrs:
        words.append(f"seed {tree.attrs['seed']}")
    return " · ".join(words)


def count_hidden(tree: xr.DataTree, data: xr.DataArray, view: View) -> str:
    """Count the parameters of no weight layer, which a view by weight leaves out; empty without."""
    is_by_weight = view.by == "weight" and "param" in data.dims
    hidden = not_shown(tree).get("other", []) if is_by_weight else []
    if not hidden:
        return ""
    return f"not shown: {len(hidden):,} parameter{'s' * (len(hidden) > 1)} of no weight layer"


def describe(data: xr.DataArray, what: str, title: str) -> str:
    """Put a picture of a quantity over steps and rows into words."""
    values = np.asarray(data.values, dtype=float)
    finite = values[np.isfinite(values)]
    names = data[row_dim(data)].values.astype(str)
    steps = data["step"].values
    states = states_of(data)
    ending = "".join(
        f" {share:.1%} of the values are {words}."
        for share, words in (
            ((states < NUMBER).mean(), "missing"),
            ((states == NONFINITE).mean(), "not finite"),
        )
        if share
    )
    return (
        f"{what} of {quantity_label(data)} over {len(steps)} recorded steps "
        f"({steps[0]} to {steps[-1]}) and {len(names)} rows, from {names[0]} at the input to "
        f"{names[-1]} at the output.{_range(finite)}{ending} {title}"
    ).strip()


def _range(finite: np.ndarray) -> str:
    if not finite.size:
        return " No value is finite."
    low, middle, high = finite.min(), np.median(finite), finite.max()
    return f" Values from {low:.3g} to {high:.3g}, median {middle:.3g}."


def as_table(data: xr.DataArray) -> pd.DataFrame:
    """Lay an array out as a table, one row a value, without the coordinates nobody asked for."""
    kept = [name for name in data.coords if name in data.dims]
    extra = [name for name in data.coords if name not in kept]
    return data.drop_vars(extra).to_dataframe(name=str(data.name)).reset_index()

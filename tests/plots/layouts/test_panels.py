"""Counts that histograms are drawn of, and legends that stay inside the figure."""

import numpy as np
import pytest
import xarray as xr

from gradscope.derived.optimizers import MAX_HELD
from gradscope.errors import UsageError
from gradscope.plots.axes.style import figure_style, new_figure
from gradscope.plots.draw.histogram import histogram
from gradscope.plots.layouts.panels import legend_columns, read_histogram
from gradscope.plots.layouts.view import View

LAST = 300
"""Step of two optimizers one after the other: d to step 50, then g."""


def two_phases(missing=np.nan):
    """Make a recording in which the histogram of step k counts k entries in its only bin."""
    steps = np.arange(1, LAST + 1)
    is_d = steps <= 50
    has = np.stack([is_d, ~is_d], axis=1)
    at = ("step", "param")
    params = {"layer": ["d", "g"], "kind": ["weight"] * 2}
    coords = {
        "step": steps,
        "param": ["d.weight", "g.weight"],
        **{name: ("param", values) for name, values in params.items()},
    }
    counts = np.where(has, steps[:, None], missing)
    histograms = {
        "grad_histogram": ((*at, "grad_bin"), counts[..., None]),
        "grad_histogram_zero": (at, counts),
    }
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"optimizer_names": "d g"}),
            "/training": xr.Dataset({"optimizer": ("step", np.where(is_d, 1, 2))}, {"step": steps}),
            "/gradients": xr.Dataset({"grad_norm": (at, np.where(has, 1.0, np.nan))}, coords),
            "/histograms": xr.Dataset(histograms, {**coords, "grad_bin": [0]}),
        }
    )


@pytest.mark.parametrize("missing", [np.nan, -1])
def test_counts_are_missing_long_after_the_last_step_of_their_optimizer(missing):
    data = read_histogram(two_phases(missing), "grad_histogram_zero", View())
    d, g = data.values.T
    assert d[:50].tolist() == list(range(1, 51))
    assert (d[50 : 50 + MAX_HELD] == 50).all() and np.isnan(d[50 + MAX_HELD :]).all()
    assert (g[:50] == 51).all() and g[50:].tolist() == list(range(51, LAST + 1))


def test_a_histogram_of_what_is_missing_is_no_count():
    table = histogram(two_phases(), View(layers="^d")).data.set_index("step")["grad_histogram"]
    assert table[50 + MAX_HELD] == 50 and table[51 + MAX_HELD :].isna().all()


def with_histograms_of(tree, names):
    """Leave the histograms of some parameters, as if the others had been first seen later."""
    tree = tree.copy()
    tree["histograms"] = tree["histograms"].to_dataset().sel(param=names)
    return tree


def test_parameters_that_were_seen_after_the_last_histogram_are_left_out():
    tree = with_histograms_of(two_phases(), ["d.weight"])
    data = read_histogram(tree, "grad_histogram", View())
    assert data["param"].values.tolist() == ["d.weight"]
    assert data.values[:50, 0, 0].tolist() == list(range(1, 51))
    with pytest.raises(UsageError, match="no histogram was recorded of the parameters"):
        read_histogram(tree, "grad_histogram", View(layers="^g"))


@pytest.mark.parametrize("by", ["layer", "layer_type", "stage"])
def test_histograms_of_what_unites_parameters_are_refused(by):
    with pytest.raises(UsageError, match=f"belong to parameters; got --by {by}, use --by weight"):
        read_histogram(two_phases(), "grad_histogram", View(by=by))


@pytest.mark.parametrize("n_letters", [3, 20, 40, 90])
def test_a_legend_has_the_columns_that_fit(n_letters):
    with figure_style():
        figure = new_figure(183, 60)
        ax = figure.add_subplot()
        for i in range(6):
            ax.plot([0, 1], [i, i], label=str(i) * n_letters)
        n_columns, line = legend_columns(ax.legend())
        legend = figure.legend(loc="outside upper left", ncols=n_columns)
        figure.draw_without_rendering()
        box = legend.get_window_extent()
    assert n_columns == 1 or box.x1 <= figure.bbox.x1 + 1
    assert n_columns == {3: 6, 20: 4, 40: 2, 90: 1}[n_letters]
    assert box.height / figure.dpi <= 1.1 * line * -(-6 // n_columns) + 0.1

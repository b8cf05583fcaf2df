"""Legends that stay inside the figure."""

import pytest

from gradscope.plots.axes.style import figure_style, new_figure
from gradscope.plots.layouts.panels import legend_columns


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

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gradscope.plots.layouts.curve import draw_curve


def curve(values):
    return xr.DataArray(values, dims="step", coords={"step": np.arange(1, len(values) + 1)})


def test_a_short_series_is_drawn_point_by_point():
    ax = Figure().add_subplot()
    line: Any
    (line,) = draw_curve(curve([3.0, np.nan, 1.0]), ax=ax, label="loss")
    assert ax.get_ylabel() == "loss"
    np.testing.assert_equal(line.get_ydata(), [3.0, np.nan, 1.0])


def test_a_spike_of_one_step_in_a_long_series_stays_visible():
    values = np.ones(50_000)
    values[31_415] = 40.0
    band: Any
    line: Any
    band, line = draw_curve(curve(values), ax=Figure().add_subplot())
    assert len(line.get_xdata()) < 1000
    assert band.get_paths()[0].get_extents().y1 == 40.0


def test_losses_over_many_factors_get_a_log_axis():
    ax = Figure().add_subplot()
    draw_curve(curve(np.geomspace(1, 1e-4, 30)), ax=ax)
    assert ax.get_yscale() == "log"

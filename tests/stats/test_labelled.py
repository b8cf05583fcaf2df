import numpy as np
import pytest
import xarray as xr

from gradscope.stats import labelled
from gradscope.stats.slopes.theil_sen import theil_sen_slope
from gradscope.stats.tests.max_t import max_t
from gradscope.stats.tests.sign_flip import sign_flip


@pytest.fixture
def data():
    values = np.random.default_rng(0).normal(size=(8, 4, 3))
    coords = {"layer": list("abcd"), "depth": ("layer", [0.0, 1.0, 2.0, 4.0]), "seed": range(8)}
    return xr.DataArray(values, dims=("seed", "layer", "step"), coords=coords)


def test_estimate_is_the_estimator_at_each_place(data):
    result = labelled.estimate(sign_flip, data, dim="seed", alternative="greater")
    assert result.p_value.dims == ("layer", "step")
    assert list(result.layer.values) == list("abcd")
    one = sign_flip(data.values[:, 1, 2], alternative="greater")
    at = result.isel(layer=1, step=2)
    assert (at.estimate, at.low, at.high, at.p_value, at.n) == pytest.approx(
        (one.estimate, one.low, one.high, one.p_value, 8)
    )


def test_missing_units_are_left_out(data):
    data[3, 1, 2] = np.nan
    data[1:7, 0, 0] = np.nan
    result = labelled.estimate(sign_flip, data, dim="seed")
    kept = np.delete(data.values[:, 1, 2], 3)
    assert result.isel(layer=1, step=2).p_value == sign_flip(kept).p_value
    assert result.isel(layer=0, step=0).n == 2
    assert np.isnan(result.isel(layer=0, step=0).estimate)


def test_two_samples_and_lazy_arrays(data):
    lazy = data.chunk({"layer": 2, "seed": 4})
    result = labelled.estimate(theil_sen_slope, lazy, data.depth, dim="layer")
    one = theil_sen_slope(data.values[5, :, 0], data.depth.values)
    assert float(result.estimate.sel(seed=5).isel(step=0)) == pytest.approx(one.estimate)


def test_slope_keeps_the_other_dimensions(data):
    slopes = labelled.slope(data, "depth")
    assert slopes.dims == ("seed", "step")
    expected = np.polyfit(data.depth, data.values[2, :, 1], 1)[0]
    assert float(slopes.sel(seed=2)[1]) == pytest.approx(expected)


def test_max_t_leaves_unknown_cells_out(data):
    data[0, 3, 1] = np.nan
    result = labelled.max_t(data, "seed")
    assert result.p_value.dims == ("layer", "step")
    assert np.isnan(result.p_value[3, 1])
    whole = max_t(np.delete(data.values.reshape(8, -1), 3 * 3 + 1, axis=1))
    np.testing.assert_allclose(result.p_value.values.ravel()[:10], whole.p_value[:10])
    assert result.attrs["n"] == 8


def test_errors_name_what_exists(data):
    with pytest.raises(ValueError, match="unknown dimension 'seeds'; did you mean 'seed'"):
        labelled.estimate(sign_flip, data, dim="seeds")
    with pytest.raises(ValueError, match="unknown coordinate 'height'"):
        labelled.slope(data, "height")
    with pytest.raises(ValueError, match="no cell of the map is known in all 8"):
        labelled.max_t(data * np.nan, "seed")

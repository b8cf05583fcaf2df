import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure

from gradscope.plots.axes.scales import (
    RoomyLogLocator,
    _ratio_ticks,
    declared_kind,
    effect_scale,
    format_values,
    plain_number,
    power_of_ten,
    scale_of,
    scale_of_rows,
)


def test_magnitudes_are_logarithmic_over_their_whole_range():
    scale = scale_of(np.array([0.0, 1e-6, 1e-3, np.nan, np.inf]))
    assert (scale.kind, scale.low, scale.high) == ("log", 1e-6, 1e-3)
    assert isinstance(scale.norm, LogNorm)


def test_a_few_outliers_do_not_take_the_colours_and_are_marked():
    values = np.concatenate([np.geomspace(0.1, 1, 10_000), [1e20]])
    scale = scale_of(values)
    assert scale.high == pytest.approx(1, rel=0.01)
    assert scale.extend == "max" and scale.low == pytest.approx(0.1, rel=0.01)


def test_shares_and_logarithms_are_linear():
    assert scale_of(np.array([0.2, 0.9]), "share").kind == "linear"
    assert scale_of(np.array([-30.0, -5.0]), "linear").kind == "linear"
    assert scale_of(np.zeros(3), "share").low < 0


def test_signed_quantities_are_symmetric_about_zero():
    scale = scale_of(np.array([-0.5, 0.1, 0.3]))
    assert (scale.kind, scale.low, scale.high) == ("diverging", -0.5, 0.5)
    assert scale.extend == "neither"
    assert scale_of(np.array([0.1, 0.4]), "signed").low == -0.4
    assert scale_of(np.zeros(2), "signed").kind == "diverging"
    wide = scale_of(np.array([-1e-6, 1e-6, 1e-6, 1.0]))
    assert wide.kind == "symlog" and isinstance(wide.norm, SymLogNorm)
    assert wide.norm(0.0) == pytest.approx(0.5)


def test_the_schema_or_the_users_attributes_say_how_to_draw():
    def kind(name, **attrs):
        return declared_kind(xr.DataArray(0.0, name=name, attrs=attrs))

    assert kind("grad_norm") == "log"
    assert kind("grad_zero_fraction") == "share"
    assert kind("mine") == kind("mine_fraction") == "auto"
    assert kind("mine", scale="share") == "share"


def test_rows_near_zero_do_not_stretch_the_colours_and_are_counted():
    values = np.tile(np.geomspace(0.1, 1.0, 8), (5, 1))
    values[:, 2] *= 1e-9
    scale = scale_of_rows(values, "log")
    assert scale.low == pytest.approx(0.1) and scale.extend == "min"
    assert scale.note == "1 row below the colours"
    assert scale_of_rows(values[:, [0, 1, 3]], "log").note == ""


def test_all_zero_and_constant_values_can_be_drawn():
    assert scale_of(np.zeros(4)).kind == "linear"
    constant = scale_of(np.full(4, 2.0))
    assert constant.low < 2 < constant.high


def test_nothing_finite_has_a_scale_without_meaning():
    scale = scale_of(np.array([np.nan, np.inf]), "log")
    assert (scale.kind, scale.low, scale.high) == ("linear", 0.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high"), [(0.9, 1.1), (1.0, 3.0), (1e-3, 1.0), (1e-20, 1.0), (1e-9, 1e-7), (5.0, 5e7)]
)
def test_log_axes_have_three_to_eight_readable_labels(low, high):
    figure = Figure(figsize=(2, 2))
    ax = figure.add_axes((0.2, 0, 0.8, 1))
    ax.set_yscale("log")
    format_values(ax.yaxis, scale_of(np.array([low, high])))
    ax.set_ylim(low, high)
    figure.draw_without_rendering()
    seen = [tick for tick in ax.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    texts = [tick.label1.get_text() for tick in seen]
    assert 2 <= len(texts) <= 8 and len(set(texts)) == len(texts)


def test_numbers_are_written_as_people_write_them():
    assert plain_number(0.002) == "0.002"
    assert power_of_ten(1e-7) == "$10^{-7}$"
    assert power_of_ten(1.5e-7) == r"$1.5\times10^{-7}$"
    assert power_of_ten(5e8) == r"$5\times10^{8}$"
    assert power_of_ten(-1000.0) == "−$10^{3}$"
    assert power_of_ten(0.0) == "0"


@pytest.mark.parametrize(
    ("height", "low", "high", "expected"),
    [
        (2.0, 0.02, 2.0, [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]),
        (0.5, 0.02, 2.0, [0.1, 1.0]),
        (1.0, 0.02, 0.5, [0.03, 0.1, 0.3]),
        (1.5, 0.6, 1.83, [0.6, 0.8, 1.0, 1.5]),
        (1.0, 2.1, 4.9, [3.0, 4.0]),
        (2.0, 1e-30, 1.0, [1e-30, 1e-25, 1e-20, 1e-15, 1e-10, 1e-5, 1.0]),
    ],
)
def test_log_ticks_are_as_many_as_have_room(height, low, high, expected):
    ax = Figure(figsize=(3, height)).add_axes((0.2, 0, 0.8, 1))
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(RoomyLogLocator())
    np.testing.assert_allclose(ax.get_yticks(), expected)


def test_ratios_have_ticks_at_round_factors():
    scale = effect_scale(np.log([0.3, 1.0, 2.5]), is_ratio=True)
    assert scale.kind == "ratio" and scale.low == -scale.high
    ax = Figure().add_subplot()
    ax.set_ylim(scale.low, scale.high)
    format_values(ax.yaxis, scale)
    words = [ax.yaxis.get_major_formatter()(value) for value in ax.get_yticks()]
    assert words == ["÷3", "÷1.5", "1", "×1.5", "×3"]


def test_every_map_of_ratios_has_five_labels_or_more_and_none_beyond_its_ends():
    for reach in (1.012, 1.3, 1.99, 3.9, 7.0, 60.0, 1e5, 1e9):
        ticks = _ratio_ticks(np.log(reach))
        assert len(ticks) >= 5 and max(ticks) <= np.log(reach) * 1.001


def test_no_difference_has_a_scale_about_zero():
    for is_ratio in (True, False):
        scale = effect_scale(np.zeros(5), is_ratio=is_ratio)
        assert scale.low == -scale.high < 0

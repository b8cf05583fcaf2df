import numpy as np
import pytest
import xarray as xr

from gradscope.plots.draw.effective_lr import draw_effective_lr
from gradscope.plots.draw.histogram import draw_histogram


def counts(values, first, dim="grad_bin"):
    values = np.asarray(values, dtype=float)
    bins = np.arange(first, first + values.shape[-1])
    coords = {dim: bins}
    if values.ndim == 2:
        coords["step"] = np.arange(1, len(values) + 1)
    return xr.DataArray(values, dims=("step", dim)[-values.ndim :], coords=coords)


def test_cells_are_shares_of_each_step_with_zeros_in_a_strip_of_their_own():
    data = counts([[0, 3, 1, 0], [0, 0, 2, 0]], first=-10)
    zeros = xr.DataArray([0.0, 2.0], dims="step")
    mesh = draw_histogram(data, zeros=zeros)
    drawn = mesh.get_array().filled(0)
    # Rows: zeros, an empty gap, then the octaves -9 and -8.
    np.testing.assert_allclose(drawn, [[0, 0.5], [0, 0], [0.75, 0], [0.25, 0.5]])
    edges = mesh.get_coordinates()[:, 0, 1]
    assert edges.tolist() == [-11, -10, -9, -8, -7]


def test_maps_of_one_span_have_their_zeros_at_one_height():
    data = [counts([[0, 3, 1, 0]], first=-10), counts([[5, 0, 0, 0]], first=-10)]
    zeros = xr.DataArray([1.0], dims="step")
    axes = [draw_histogram(one, zeros=zeros, span=(0, 2)).axes for one in data]
    assert [ax.get_ylim() for ax in axes] == [(-12, -7)] * 2
    assert [ax.get_yticks()[0] for ax in axes] == [-11.5] * 2


def test_magnitudes_are_labelled_by_powers_of_ten_at_their_place():
    ax = draw_histogram(counts(np.ones((3, 40)), first=-35)).axes
    ax.get_figure().draw_without_rendering()
    ticks = dict(zip([t.get_text() for t in ax.get_yticklabels()], ax.get_yticks(), strict=True))
    assert ticks["$10^{-6}$"] == pytest.approx(np.log2(1e-6))
    assert "zero" in ticks


def test_an_unknown_step_is_hatched():
    data = counts([[1, 1], [np.nan, np.nan], [1, 1]], first=0)
    ax = draw_histogram(data).axes
    assert [patch.get_x() for patch in ax.patches] == [1.5]


def test_effective_lr_lies_where_the_formula_says_and_has_unit_area():
    data = counts([0, 5, 15, 0], first=-20, dim="moment_bin")
    lines = draw_effective_lr(data, lr=0.1, alphas=(0.5, 0.0, -0.25))
    rates = lines[0].get_xdata()
    np.testing.assert_allclose(rates, 0.1 / np.sqrt(2.0 ** np.array([-18.5, -17.5])))
    for line, alpha in ((lines[0], 0.5), (lines[2], 0.25)):
        width = alpha * np.log10(2)  # an octave of v, in factors of ten of the rate
        assert (line.get_ydata() * width).sum() == pytest.approx(1)
    assert lines[1].get_xdata() == [0.1, 0.1]
    assert [line.get_label() for line in lines] == ["α = 0.5", "α = 0", "α = −0.25"]

"""A few pictures against images that somebody looked at; numbers come from formulas.

Without words, so that no font matters, and with a tolerance for other rasterisers. After a wanted
change, ``python tests/plots/layouts/test_baselines.py`` writes them anew; look at them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

from gradscope.plots.axes.scales import effect_scale
from gradscope.plots.axes.style import figure_style
from gradscope.plots.draw.heatmap import draw_heatmap
from gradscope.plots.draw.histogram import draw_histogram
from gradscope.plots.draw.trajectories import draw_trajectories

BASELINE = Path(__file__).with_name("baseline")
TOLERANCE = 6.0
"""Root of the mean squared difference over pixels, of 255: a shifted row or another map is > 15."""

STEPS, DEPTH = np.arange(1, 61), np.arange(8)
FALLING = np.exp(-0.5 * DEPTH[None, ::-1]) / np.sqrt(STEPS[:, None])


def rows(values, name):
    coords = {
        "step": STEPS,
        "param": [f"layers.{i}.weight" for i in DEPTH],
        "stage": ("param", DEPTH // 3),
    }
    return xr.DataArray(values, dims=("step", "param"), coords=coords, name=name)


def heatmap(ax):
    """Falls over depth and steps; one layer is zero for a while, one missing."""
    values = FALLING.copy()
    values[20:30, 2], values[40:, 6] = 0.0, np.nan
    draw_heatmap(rows(values, "grad_norm"), ax=ax, has_key=False)


def ratio_map(ax):
    """Twice as large at the input at first, half at the output at last."""
    effect = np.log(2) * (1 - DEPTH[None, :] / 3.5) * np.cos(STEPS[:, None] / 20)
    data = rows(effect, "grad_norm")
    draw_heatmap(data, ax=ax, scale=effect_scale(effect, is_ratio=True), has_key=False)


def trajectories(ax):
    draw_trajectories(rows(FALLING, "grad_norm"), ax=ax)


def histogram(ax):
    """A bell that moves down an octave in 15 steps, and a tenth of zeros."""
    bins = np.arange(-30, 1)
    bell = np.exp(-((bins[None, :] + 5 + STEPS[:, None] / 15) ** 2) / 8)
    counts = xr.DataArray(
        np.round(1e4 * bell), dims=("step", "grad_bin"), coords={"step": STEPS, "grad_bin": bins}
    )
    draw_histogram(counts, zeros=counts.sum("grad_bin") / 9, ax=ax)


PICTURES = {draw.__name__: draw for draw in (heatmap, ratio_map, trajectories, histogram)}


def write(name, path):
    """Draw a picture without words, 320 × 200 dots."""
    with figure_style():
        figure = Figure(figsize=(3.2, 2.0), dpi=100)
        ax = figure.add_axes((0.02, 0.02, 0.96, 0.96))
        PICTURES[name](ax)
        for panel in figure.axes[1:]:
            panel.remove()  # the colour bar, which is mostly words
        if ax.get_legend() is not None:
            ax.get_legend().remove()
        ax.set(xlabel="", ylabel="")
        ax.tick_params(which="both", labelbottom=False, labelleft=False)
        figure.savefig(path, dpi=100)


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_as_looked_at(name, tmp_path):
    write(name, tmp_path / f"{name}.png")
    expected = str(BASELINE / f"{name}.png")
    assert compare_images(expected, str(tmp_path / f"{name}.png"), tol=TOLERANCE) is None


def test_another_picture_is_noticed(tmp_path):
    data = rows(FALLING[:, ::-1], "grad_norm")
    with figure_style():
        figure = Figure(figsize=(3.2, 2.0), dpi=100)
        draw_heatmap(data, ax=figure.add_axes((0.02, 0.02, 0.96, 0.96)), has_key=False)
        figure.savefig(tmp_path / "other.png", dpi=100)
    found = compare_images(str(BASELINE / "heatmap.png"), str(tmp_path / "other.png"), tol=15)
    assert found is not None


if __name__ == "__main__":
    BASELINE.mkdir(exist_ok=True)
    for picture in PICTURES:
        write(picture, BASELINE / f"{picture}.png")

"""Several losses in one panel: named in full view, whatever their number and their names."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from matplotlib.text import Text

from gradscope.plots.axes.style import figure_style, new_figure
from gradscope.plots.figure import View, draw_picture
from gradscope.plots.layouts.losses import draw_losses, loss_key
from tests.helpers import synthetic_recording

LONG = "adversarial_objective_of_the_patch_discriminator_at_scale_{}_of_the_pyramid"
NAMES = {"short": "d{}", "long": LONG, "longer": LONG + ".and_of_its_exponential_average"}


def taking_turns(n_optimizers, name):
    """A recording in which optimizers step one after the other."""
    tree = synthetic_recording(60, 5)
    training = tree["training"].to_dataset().drop_vars("optimizer", errors="ignore")
    turns = 2.0 ** (np.arange(60) % n_optimizers)
    names = " ".join(name.format(i) for i in range(n_optimizers))
    groups = {f"/{key}": node.to_dataset() for key, node in tree.children.items()}
    groups["/training"] = training.assign(optimizer=("step", turns))
    groups.pop("/evaluation")
    root = xr.Dataset(attrs={**tree.attrs, "optimizer_names": names})
    return xr.DataTree.from_dict({"/": root, **groups})


def inside(box, other):
    return (
        box.x0 >= other.x0 - 1
        and box.x1 <= other.x1 + 1
        and box.y0 >= other.y0 - 1
        and box.y1 <= other.y1 + 1
    )


@pytest.mark.parametrize("kind", ["heatmap", "curves", "overview"])
@pytest.mark.parametrize(("n", "name"), [(8, "short"), (2, "long"), (4, "longer"), (8, "longer")])
def test_the_legend_is_whole_and_covers_nothing(kind, name, n):
    picture = draw_picture(taking_turns(n, NAMES[name]), View(kind=kind))
    figure = picture.figure
    (ax,) = [ax for ax in figure.axes if ax.get_legend() is not None and ax.get_ylabel() == "loss"]
    legend = ax.get_legend()
    box = legend.get_window_extent()
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(set(texts)) == len(texts) == n
    assert inside(box, figure.bbox)
    assert not box.overlaps(ax.get_window_extent().shrunk(1, 0.99))
    others = [other for other in figure.axes if other is not ax]
    titles = [
        t for t in ax.findobj(Text) if t.get_text() and t.get_text() == ax.get_title(loc="left")
    ]
    boxes = [title.get_window_extent() for title in titles]
    boxes += [own for other in others if other.axison and (own := other.get_tightbbox())]
    assert not any(box.overlaps(other) for other in boxes)
    looks = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(looks) == n


def test_one_loss_needs_no_legend():
    picture = draw_picture(synthetic_recording(20, 5), View())
    assert picture.figure.axes[0].get_legend() is None


def test_names_that_lose_their_middle_stay_different():
    losses = {f"loss of {'a' * 30}{i}{'b' * 30}": None for i in range(3)}
    labels = list(loss_key(losses, 40, 1.0).labels.values())
    assert [label.replace("\n", "") for label in labels] == [n[8:] for n in losses]
    assert max(len(line) for label in labels for line in label.splitlines()) <= 23


def test_a_loss_below_zero_is_drawn_beside_one_that_wants_a_log_axis():
    def curve(values):
        return xr.DataArray(values, dims="step", coords={"step": np.arange(1, 11)})

    for order in itertools.permutations(("loss of d", "loss of g")):
        losses = dict.fromkeys(order)
        losses["loss of d"] = curve(np.linspace(-1, -5, 10))
        losses["loss of g"] = curve(np.geomspace(1, 1e4, 10))
        with figure_style():
            ax = new_figure(89, 60).add_subplot()
            draw_losses(losses, ax=ax, room_mm=60)
        assert ax.get_yscale() == "linear"

"""Recordings that hold little: one step, nothing finite, losses under names of their own."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from gradscope.errors import UsageError
from gradscope.plots.figure import View, draw_picture
from tests.helpers import synthetic_recording


def with_training(tree, training, **changed):
    """Replace /training and other groups, and leave out /evaluation."""
    groups = {f"/{name}": node.to_dataset() for name, node in tree.children.items()}
    groups.pop("/evaluation")
    groups |= {"/": tree.to_dataset(), "/training": training}
    return xr.DataTree.from_dict(groups | {f"/{k}": v for k, v in changed.items()})


@pytest.fixture(scope="module")
def nowhere_finite():
    tree = synthetic_recording(20, 4)
    training = tree["training"].to_dataset()
    gradients = tree["gradients"].to_dataset()
    changed = gradients.assign(
        grad_norm=gradients["grad_norm"] * np.nan, grad_nonfinite=gradients["grad_nonfinite"] + 1
    )
    return with_training(tree, training.assign(loss=training["loss"] * np.nan), gradients=changed)


@pytest.mark.parametrize("kind", ["profile", "trajectories"])
def test_nothing_finite_has_no_numbers_beside_it(nowhere_finite, kind):
    figure = draw_picture(nowhere_finite, View(kind=kind)).figure
    ax = figure.axes[0]
    assert not [text for text in ax.get_yticklabels() if text.get_text()]
    texts = [text.get_text() for text in ax.texts]
    assert not any("zero or missing" in text for text in texts)
    handles = [text.get_text() for text in ax.get_legend().get_texts()]
    assert handles[-1] == "non-finite"


def test_an_overview_of_nothing_finite_is_whole(nowhere_finite):
    figure = draw_picture(nowhere_finite, View(kind="overview")).figure
    assert "the loss is nowhere finite" in [t.get_text() for a in figure.axes for t in a.texts]
    for ax in figure.axes:
        if ax.get_legend() is not None:
            assert ax.get_legend().get_window_extent().x1 <= figure.bbox.x1 + 1


def test_a_loss_that_is_nowhere_finite_is_told_from_none(nowhere_finite):
    with pytest.raises(UsageError, match="the training loss is nowhere finite"):
        draw_picture(nowhere_finite, View(kind="curves"))
    training = nowhere_finite["training"].to_dataset().drop_vars("loss")
    silent = xr.DataTree.from_dict({"/training": training})
    with pytest.raises(UsageError, match="neither a training loss nor an evaluated metric"):
        draw_picture(silent, View(kind="curves"))


def test_a_single_step_is_seen_and_numbered():
    tree = synthetic_recording(1, 4)
    ax = draw_picture(tree, View(kind="trajectories")).figure.axes[0]
    assert all(line.get_marker() == "o" for line in ax.lines)
    figure = draw_picture(tree, View(kind="overview")).figure
    labels = {
        text.get_text()
        for ax in figure.axes
        if ax.axison and ax.get_xlabel() == "step"
        for place, text in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
        if ax.get_xlim()[0] <= place <= ax.get_xlim()[1]
    }
    assert labels == {"1"}


def test_a_step_without_neighbours_is_a_point():
    tree = synthetic_recording(9, 3)
    norms = tree["gradients"]["grad_norm"].load()
    norms.values[[3, 5]] = np.nan
    lines = draw_picture(tree, View(kind="trajectories")).figure.axes[0].lines[:3]
    middle = norms["step"].values[4]
    assert [list(line.get_xdata()[line.get_markevery()]) for line in lines] == 3 * [[middle]]


@pytest.mark.parametrize("kind", ["heatmap", "curves", "overview"])
def test_losses_under_names_of_their_own_are_drawn(kind):
    """As of a GAN that logs ``d_loss`` and ``g_loss`` in turn."""
    tree = synthetic_recording(20, 4)
    training = tree["training"].to_dataset()
    loss, is_odd = training["loss"], training["step"] % 2 == 1
    training = training.drop_vars("loss").assign(
        d_loss=loss.where(is_odd), g_loss=loss.where(~is_odd)
    )
    figure = draw_picture(with_training(tree, training), View(kind=kind)).figure
    ax = next(ax for ax in figure.axes if ax.get_ylabel() == "loss")
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["d_loss"], loss.values[::2])
    np.testing.assert_allclose(drawn["g_loss"], loss.values[1::2])


def test_an_objective_without_a_loss_has_no_name(monkeypatch, nowhere_finite):
    known = xr.DataArray([1.0, 0.5], dims="step", coords={"step": [1, 2]})
    losses = {"loss of a": known, "loss of b": known * np.nan}
    monkeypatch.setattr("gradscope.plots.draw.curves.recorded_losses", lambda tree: losses)
    (ax,) = draw_picture(nowhere_finite, View(kind="curves")).figure.axes
    assert len(ax.lines) == 1 and ax.get_legend() is None

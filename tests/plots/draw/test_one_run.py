"""Layouts of one recording beyond map, profile and trajectories."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from gradscope.errors import UsageError
from gradscope.plots.figure import View, draw_picture
from tests.helpers import synthetic_recording


@pytest.fixture(scope="module")
def tree():
    """A recording with histograms every tenth step, and an event of the flight recorder at 33."""
    tree = synthetic_recording(60, 5)
    source = tree["gradients"].to_dataset()
    steps = np.arange(10, 61, 10)
    rng = np.random.default_rng(0)
    variables: dict[str, Any] = {}
    for name, dim, n_bins in (("grad", "grad_bin", 96), ("exp_avg_sq", "moment_bin", 181)):
        octaves = np.arange(n_bins)
        shape = np.exp(-0.5 * ((octaves - n_bins * 0.6) / 4) ** 2)
        mean = 100 * np.ones((len(steps), source.sizes["param"], 1)) * shape
        variables[f"{name}_histogram"] = (("step", "param", dim), rng.poisson(mean))
        variables[f"{name}_histogram_zero"] = (
            ("step", "param"),
            rng.poisson(5, size=mean.shape[:2]),
        )
    params = {key: value for key, value in source.coords.items() if "step" not in value.dims}
    histograms = xr.Dataset(variables).assign_coords(
        params | {"step": steps, "grad_bin": np.arange(-80, 16), "moment_bin": np.arange(-149, 32)}
    )
    near = source.sel(step=slice(30, 36))
    far = source.sel(step=slice(50, 52))
    spikes = xr.Dataset({"spike_reason": ("event", [0])}, coords={"event": [33]})
    groups = {
        "/histograms": histograms,
        "/spikes": spikes,
        "/spikes/gradients": xr.concat([near, far], "step"),
    }
    old = {f"/{name}": node.to_dataset() for name, node in tree.children.items()}
    return xr.DataTree.from_dict({"/": tree.to_dataset(), **old, **groups})


def test_histogram_adds_the_chosen_parameters(tree):
    picture = draw_picture(tree, View(kind="histogram", layers="features.3"))
    source = tree["histograms/grad_histogram"].sel(param="features.3.weight")
    assert picture.data["grad_histogram"].sum() == source.sum()
    assert "features.3.weight" in picture.figure.axes[0].get_title(loc="left")


def test_effective_lr_has_one_line_an_alpha(tree):
    picture = draw_picture(tree, View(kind="effective-lr", alphas=(-0.1, 0.5)))
    labels = [line.get_label() for line in picture.figure.axes[0].lines]
    assert labels == ["α = −0.1", "α = 0.5"]
    assert "step 60" in picture.figure.axes[0].get_title(loc="left").replace("\n", " ")


def test_second_moments_that_are_nowhere_finite_are_refused(tree):
    groups = {f"/{name}": node.to_dataset() for name, node in tree.children.items()}
    name = "exp_avg_sq_histogram"
    none = groups["/histograms"].assign({name: groups["/histograms"][name] * 0})
    groups |= {"/": tree.to_dataset(), "/histograms": none}
    with pytest.raises(UsageError, match="no second moment is finite and above zero at step 60"):
        draw_picture(xr.DataTree.from_dict(groups), View(kind="effective-lr"))


def changed(tree, **groups):
    """Replace groups of a recording; None leaves one out, and `__` is a slash."""
    known = {f"/{n.path.strip('/')}": n.to_dataset(inherit=False) for n in tree.subtree}
    known |= {"/" + name.replace("__", "/"): data for name, data in groups.items()}
    return xr.DataTree.from_dict({k: v for k, v in known.items() if v is not None})


def test_effective_lr_divides_the_last_known_rate(tree):
    training = tree["training"].to_dataset()
    rates = np.where(training["step"] <= 42, 0.1 * training["step"], np.nan)[:, None]
    training = training.assign(lr=(training["lr"].dims, rates))
    for last in (42, 55):  # histograms end at step 60
        view = View(kind="effective-lr", alphas=(0.0,))
        behind = changed(tree, training=training.sel(step=slice(None, last)))
        (line,) = draw_picture(behind, view).figure.axes[0].lines
        np.testing.assert_allclose(line.get_xdata(), 4.2)


def test_effective_lr_without_a_rate_is_refused(tree):
    training = tree["training"].to_dataset()
    view = View(kind="effective-lr")
    for other in (None, training.drop_vars("lr")):
        with pytest.raises(UsageError, match="this recording has no `lr`"):
            draw_picture(changed(tree, training=other), view)
    with pytest.raises(UsageError, match="no learning rate is known at step 60 or before"):
        draw_picture(changed(tree, training=training.assign(lr=training["lr"] * np.nan)), view)


def test_update_ratio_shows_the_rule_of_thumb(tree):
    ax = draw_picture(tree, View(kind="update-ratio")).figure.axes[0]
    assert any(np.allclose(line.get_ydata(), 1e-3) for line in ax.lines)
    assert ax.get_ylim()[0] <= 1e-3 <= ax.get_ylim()[1]


def test_spike_shows_the_rows_around_its_event(tree):
    picture = draw_picture(tree, View(kind="spike"))
    assert sorted(set(picture.data["step"])) == [30, 31, 32, 33, 34, 35, 36]
    marked = [line for line in picture.figure.axes[2].lines if line.get_xdata() == [33, 33]]
    assert len(marked) == 1 and picture.description.startswith("Event at step 33")


def test_rows_of_another_event_are_not_shown_for_one_without(tree):
    events = xr.Dataset({"spike_reason": ("event", [0, 0, 0])}, coords={"event": [33, 37, 45]})
    killed = changed(tree, spikes=events)
    for event in (37, 45):  # one beside the rows 30 to 36, one far from them
        with pytest.raises(UsageError, match=f"around the event at step {event} were not recorded"):
            draw_picture(killed, View(kind="spike", steps=(event, None)))
    picture = draw_picture(killed, View(kind="spike", steps=(30, 50)))
    assert picture.description.startswith("Event at step 33")


def test_an_event_without_any_layer_row_is_refused(tree):
    training = tree["training"].to_dataset().sel(step=slice(30, 36))
    for rows in ({}, {"spikes__training": training}):
        killed = changed(tree, spikes__gradients=None, **rows)
        with pytest.raises(UsageError, match="around the event at step 33 were not recorded"):
            draw_picture(killed, View(kind="spike"))


def test_a_group_without_a_row_at_a_skipped_step_shows_those_around_it(tree):
    """As /updates, where a scaler skipped the step whose gradients were not finite."""
    updates = tree["updates"].to_dataset().sel(step=[30, 31, 32, 34, 35, 36])
    view = View(kind="spike", quantity="update_ratio")
    picture = draw_picture(changed(tree, spikes__updates=updates), view)
    assert sorted(set(picture.data["step"])) == [30, 31, 32, 34, 35, 36]


def test_overview_leaves_out_what_has_no_row_in_the_steps(tree):
    behind = changed(tree, activations=tree["activations"].to_dataset().sel(step=slice(None, 30)))
    picture = draw_picture(behind, View(kind="overview", steps=(46, None)))
    kept = {"grad_norm", "update_ratio", "exp_avg_sq_mean"}
    assert set(picture.data["quantity"]) == kept
    assert set(picture.data["step"]) == set(range(46, 61))
    assert "Left out: output_grad_rms (no recorded step" in picture.description
    whole = draw_picture(behind, View(kind="overview", steps=(20, None)))
    assert set(whole.data["quantity"]) == kept | {"output_grad_rms"}
    with pytest.raises(UsageError, match="no recorded step in 61:"):
        draw_picture(behind, View(kind="overview", steps=(61, None)))


def test_overview_has_every_quantity_that_was_recorded(tree):
    picture = draw_picture(tree, View(kind="overview"))
    assert set(picture.data["quantity"]) == {
        "grad_norm",
        "output_grad_rms",
        "update_ratio",
        "exp_avg_sq_mean",
    }
    assert picture.figure.get_size_inches()[0] * 25.4 == pytest.approx(183)


def test_overview_has_panels_above_each_other_and_one_step_axis(tree):
    axes = [ax for ax in draw_picture(tree, View(kind="overview")).figure.axes if ax.axison]
    loss, profile = axes[:2]
    maps = [ax for ax in axes if ax.collections and ax.get_xlabel().startswith("step")]
    maps = [ax for ax in maps if ax is not loss]
    assert len(maps) == 4
    for ax in maps:
        above = loss if ax.get_position().x0 < 0.5 else profile
        for edge in ("x0", "x1"):
            place = getattr(above.get_position(), edge)
            assert getattr(ax.get_position(), edge) == pytest.approx(place, abs=1e-3)
        assert ax.get_xlim() == loss.get_xlim()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("histogram", {}, "no `grad_histogram`: record the group"),
        ("effective-lr", {}, "no `exp_avg_sq_histogram`"),
        ("spike", {}, "has no spikes"),
        ("alpha", {}, "draws several recordings"),
    ],
)
def test_what_was_not_recorded_is_said(kind, options, message):
    with pytest.raises(UsageError, match=message):
        draw_picture(synthetic_recording(10, 3), View(kind=kind, **options))


def test_steps_without_a_row_are_said(tree):
    with pytest.raises(UsageError, match="no histogram was recorded in the steps"):
        draw_picture(tree, View(kind="histogram", steps=(1, 5)))
    with pytest.raises(UsageError, match="did not fire in the steps"):
        draw_picture(tree, View(kind="spike", steps=(1, 5)))

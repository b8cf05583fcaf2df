import numpy as np
import pytest

from gradscope.derived.compare.conditions import conditions_by_label, conditions_by_setting
from gradscope.derived.compare.maps import compare_runs
from gradscope.errors import UsageError
from gradscope.plots.draw.comparison import draw_comparison, loss_table
from gradscope.plots.layouts.view import View
from tests.planted import planted_runs


def drawn(tree, conditions=None, axis="step"):
    data = tree["gradients"].dataset["grad_norm"].load()
    comparison = compare_runs(tree, data, conditions or conditions_by_setting(tree), axis=axis)
    return comparison, draw_comparison(comparison, tree)


def axes_by_label(picture):
    return {" ".join(ax.get_ylabel().split()): ax for ax in picture.figure.axes}


@pytest.fixture(scope="module")
def planted():
    return drawn(planted_runs(factor=10.0, from_step=10, layer=2, noise=0.05))


def test_the_map_is_symmetric_about_no_difference(planted):
    comparison, picture = planted
    mesh = axes_by_label(picture)["layer (input → output)"].collections[0]
    assert mesh.norm.vmin == -mesh.norm.vmax
    shown = np.asarray(mesh.get_array())
    np.testing.assert_allclose(shown, comparison.maps[0].effect.values.T)
    key = axes_by_label(picture)["gradient norm, ratio"]
    words = [label.get_text() for label in key.get_yticklabels()]
    assert words[len(words) // 2] == "1" and words[-1].startswith("×")


def test_the_first_cell_outside_is_ringed(planted):
    _, picture = planted
    (ring,) = axes_by_label(picture)["layer (input → output)"].lines
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (10, 2)


def test_the_strip_is_the_share_of_layers_outside(planted):
    _, picture = planted
    strip = axes_by_label(picture)["outside seeds"]
    corners = strip.collections[0].get_paths()[0].vertices
    late = corners[(corners[:, 0] > 11) & (corners[:, 0] < 19), 1]
    assert set(late.tolist()) == {0.0, 0.25}  # one of four layers, and the ground line


def test_titles_name_both_conditions_and_the_words_say_where(planted):
    _, picture = planted
    titles = [ax.get_title(loc="left").replace("\n", " ") for ax in picture.figure.axes]
    assert "B / A: α = 0.5 against α = 0" in titles
    assert "alpha = 0.5 first outside the seed band at step 10, layers.2.weight" in (
        picture.description
    )


def test_the_table_holds_every_cell(planted):
    _, picture = planted
    assert len(picture.data) == 20 * 4
    assert {"step", "param", "log_ratio", "ratio", "p_value", "condition", "against"} == set(
        picture.data.columns
    )
    cell = picture.data[(picture.data["step"] == 15) & (picture.data["param"] == "layers.2.weight")]
    assert 8 < cell["ratio"].item() < 12


def test_metrics_show_runs_mean_and_interval(planted):
    _, picture = planted
    ax = axes_by_label(picture)["val accuracy"]
    dots, mean = ax.lines[0], ax.containers[0].lines[0]
    np.testing.assert_allclose(dots.get_ydata(), 0.8 + 0.01 * np.arange(6))
    assert mean.get_ydata()[0] == pytest.approx(0.825)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["A", "B"]


def test_without_a_band_the_reason_stands_in_its_place():
    tree = planted_runs(n_seeds=1)
    _, picture = drawn(tree)
    words = [text.get_text() for ax in picture.figure.axes for text in ax.texts]
    assert "no seed band: one run only of A and of B" in words
    assert "no seed band: one run only of alpha = 0 and of alpha = 0.5" in picture.description
    assert "outside seeds" not in axes_by_label(picture)


def test_words_take_no_room_from_the_maps():
    tree = planted_runs(n_seeds=1)
    names = [f"a long name of a condition, with many of its settings = {i}" for i in range(2)]
    _, picture = drawn(tree, conditions_by_label(tree, names))
    ax = axes_by_label(picture)["layer (input → output)"]
    assert ax.get_position().width > 0.6


def test_losses_fall_to_the_right():
    _, picture = drawn(planted_runs(n_seeds=1), axis="loss")
    ax = axes_by_label(picture)["layer (input → output)"]
    assert ax.get_xlabel() == "training loss reached (nat)"
    assert ax.xaxis_inverted()
    assert ax.get_legend().get_texts()[0].get_text() == "missing or zero"


def test_losses_are_binned_means_by_side():
    tree = planted_runs(n_seeds=1, n_steps=100)
    comparison, _ = drawn(tree)
    table = loss_table(tree, comparison)
    own = table[table["run is"] == "A: α = 0"]
    expected = 3 * np.exp(-np.arange(1, 101) / 10).reshape(50, 2).mean(axis=1)
    np.testing.assert_allclose(own["loss"], expected)
    np.testing.assert_allclose(own["step"], np.arange(1, 101).reshape(50, 2).mean(axis=1))


def test_more_conditions_than_fit_are_refused():
    tree = planted_runs(n_seeds=4)
    with pytest.raises(UsageError, match=r"at most 6 conditions .* got 8. The runs differ"):
        drawn(tree, conditions_by_label(tree, list("ABCDEFGH")))


def test_style_and_width_are_the_views():
    tree = planted_runs(n_seeds=1)
    data = tree["gradients"].dataset["grad_norm"].load()
    comparison = compare_runs(tree, data, conditions_by_setting(tree))
    figure = draw_comparison(comparison, tree, View(width=120)).figure
    assert figure.get_figwidth() == pytest.approx(120 / 25.4)

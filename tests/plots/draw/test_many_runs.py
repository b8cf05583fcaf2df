import json
from itertools import pairwise

import h5py
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from gradscope.errors import UsageError
from gradscope.plots.draw.alpha import draw_alpha_map
from gradscope.plots.figure import View, draw_picture
from gradscope.plots.layouts.run_names import conditions, last_values
from gradscope.store.read.runs import open_runs
from tests.helpers import write_recording

ALPHAS, LRS, SEEDS = (-0.1, 0.5), (0.01, 0.1), (0, 1, 2)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    runs = [(alpha, lr, seed) for alpha in ALPHAS for lr in LRS for seed in SEEDS]
    return [
        write_recording(
            folder / f"{number:02}.h5",
            20,
            4,
            seed=number,
            config_json=json.dumps({"alpha": alpha, "lr": lr, "seed": seed}),
        )
        for number, (alpha, lr, seed) in enumerate(runs)
    ]


@pytest.fixture(scope="module")
def tree(paths):
    return open_runs(paths)


def test_conditions_name_what_differs_but_the_seed(tree):
    names = conditions(tree)
    assert len(set(names)) == 4 and names[0] == names[2]
    assert "α = −0.1" in names[0] and "lr = 0.01" in names[0] and "seed" not in names[0]
    assert len(set(conditions(tree, with_seed=True))) == 12


def test_a_name_holds_few_of_many_settings_and_none_that_is_missing():
    many = {f"setting_{i}": ("run", np.array([0.0, i, np.nan])) for i in range(30)}
    settings = {"alpha": ("run", [-0.1, 0.5, 0.5]), "model_name": ("run", ["a", "b", ""])} | many
    tree = xr.DataTree.from_dict({"/": xr.Dataset(coords={"run": ["x", "y", "z"], **settings})})
    names = conditions(tree)
    assert len(set(names)) == 3 and names[2] == "α = 0.5"
    assert names[0].startswith("α = −0.1, model = a")
    assert max(name.count("=") for name in names) <= 4
    bare = xr.Dataset(coords={"run": ["x", "y", "z"], "width": ("run", [np.nan, 2.0, np.nan])})
    assert conditions(xr.DataTree.from_dict({"/": bare})) == ["no width", "width = 2", "no width"]


def test_a_condition_has_its_colour_also_where_another_has_no_values(tree):
    groups = {f"/{name}": node.to_dataset(inherit=False) for name, node in tree.children.items()}
    loss = groups["/evaluation"]["val_loss"].load()
    loss[:3] = np.nan  # all of the first condition
    groups["/evaluation"] = groups["/evaluation"].assign(val_loss=loss)
    whole = xr.DataTree.from_dict({"/": tree.to_dataset(), **groups})
    left, right = draw_picture(whole, View(kind="curves", width="page")).figure.axes
    drawn = [line for line in left.lines if len(line.get_xdata()) and line.get_linestyle() == "-"]
    names = [text.get_text() for text in right.get_legend().get_texts()]
    colors = [line.get_color() for line in right.get_legend().get_lines()]
    assert len(names) == 4 and [line.get_color() for line in drawn] == colors[1:]


def test_other_architectures_have_a_profile_over_relative_depth(tmp_path):
    for depth in (4, 7):
        write_recording(tmp_path / f"{depth}.h5", 6, depth, seed=depth)
    tree = open_runs(tmp_path / "*.h5", relative_depth=5)
    figure = draw_picture(tree, View(kind="profile", width="page")).figure
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), np.linspace(0, 1, 5))
    assert "relative depth" in figure.axes[1].get_xlabel()


def test_maps_side_by_side_share_one_colour_scale(paths):
    picture = draw_picture(open_runs(paths[::6]), View(width="page"))
    meshes = [ax.collections[0] for ax in picture.figure.axes[:2]]
    assert len({(mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes}) == 1
    titles = [ax.get_title(loc="left") for ax in picture.figure.axes[:2]]
    assert titles == ["α = −0.1, seed = 0", "α = 0.5, seed = 6"]


def test_the_legend_of_special_cells_is_below_all_maps(tmp_path):
    for i in range(3):
        config = json.dumps({"alpha": i / 10, "schedule": "a long name, as people have " * i})
        path = write_recording(tmp_path / f"{i}.h5", 6, 3, seed=i, config_json=config)
        with h5py.File(path, "a") as file:
            file["gradients/grad_norm"][3:] = 0.0
    figure = draw_picture(open_runs(tmp_path / "*.h5"), View()).figure
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["zero"]
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert not any(legend.get_window_extent().overlaps(box) for box in boxes)


def test_too_many_maps_are_refused(tree):
    with pytest.raises(UsageError, match="at most 6 maps fit side by side; got 12"):
        draw_picture(tree, View())


def test_profile_lines_are_geometric_means_over_seeds(tree):
    picture = draw_picture(tree, View(kind="profile", width="page"))
    line = picture.figure.axes[-1].lines[0]
    first = tree["gradients/grad_norm"].isel(run=slice(0, 3), step=-1)
    values = first.isel(param=first["kind"].values == "weight").values.astype(float)
    np.testing.assert_allclose(line.get_ydata(), np.exp(np.log(values).mean(axis=0)), rtol=1e-5)


def test_curves_are_means_over_seeds_training_dashed_and_validation_solid(tree):
    picture = draw_picture(tree, View(kind="curves", width="page"))
    left, right = picture.figure.axes
    assert [left.get_ylabel(), right.get_ylabel()] == ["loss (nat)", "accuracy"]
    for metric, style in (("train_accuracy", "--"), ("val_accuracy", "-")):
        expected = tree[f"evaluation/{metric}"].isel(run=slice(0, 3)).mean("run").values
        lines = [line for line in right.lines if line.get_linestyle() == style]
        np.testing.assert_allclose(lines[0].get_ydata(), expected)
    assert len(right.get_legend().get_texts()) == 4


def test_curves_without_an_evaluation_are_of_the_training_loss(tree):
    bare = xr.DataTree.from_dict(
        {"/": tree.to_dataset(), "/training": tree["training"].to_dataset(inherit=False)}
    )
    picture = draw_picture(bare, View(kind="curves"))
    assert picture.figure.axes[0].get_ylabel() == "loss"


def test_a_training_loss_of_every_step_stands_beside_the_validation(tree):
    evaluation = tree["evaluation"].to_dataset(inherit=False)[["val_loss"]]
    training = tree["training"].to_dataset(inherit=False)
    both = {"/": tree.to_dataset(), "/training": training, "/evaluation": evaluation}
    (ax,) = draw_picture(xr.DataTree.from_dict(both), View(kind="curves")).figure.axes
    dashed = next(line for line in ax.lines if line.get_linestyle() == "--")
    expected = tree["training/loss"].isel(run=slice(0, 3)).mean("run").values
    np.testing.assert_allclose(dashed.get_ydata(), expected, rtol=1e-6)
    assert ax.get_title(loc="left") == "dashed train, solid val"


@pytest.mark.parametrize("kind", ["curves", "profile"])
def test_fifteen_conditions_are_named_without_overlap(tmp_path, kind):
    for i in range(15):
        config = {"lr": 0.001 * (i + 1), "weight_decay": 0.1, "schedule": "cosine, warm-up"}
        config |= {"augment": f"flip and crop {i}", "seed": i}
        text = json.dumps(config)
        write_recording(tmp_path / f"{i:02}.h5", 6, 3, seed=i, config_json=text)
    figure = draw_picture(open_runs(tmp_path / "*.h5"), View(kind=kind)).figure
    beside = [ax.get_legend() for ax in figure.axes if ax.get_legend() is not None]
    (legend,) = beside + list(figure.legends)
    boxes = [text.get_window_extent() for text in legend.get_texts()]
    assert len(boxes) == 15
    apart = (a.y0 + 1 >= b.y1 or a.x1 <= b.x0 for a, b in pairwise(boxes))
    assert all(apart)
    whole, outer = figure.bbox, legend.get_window_extent()
    assert outer.x1 <= whole.x1 + 1 and outer.y0 >= -1 and outer.y1 <= whole.y1 + 1
    panels = [ax.get_window_extent() for ax in figure.axes]
    assert all(panel.x1 <= outer.x0 or panel.y0 >= outer.y1 for panel in panels)
    assert sum(panel.width for panel in panels) > 0.5 * whole.width
    below = [ax.xaxis.label.get_window_extent() for ax in figure.axes if ax.get_xlabel()]
    assert all(label.y0 >= outer.y1 - 1 or label.x1 <= outer.x0 for label in below)


def test_what_no_run_evaluated_is_said(paths, tmp_path):
    silent = open_runs(paths[:2]).drop_nodes("evaluation")
    with pytest.raises(UsageError, match="none of test_accuracy, val_accuracy"):
        draw_picture(silent, View(kind="alpha"))


def test_last_values_skip_what_is_missing(tree):
    changed = tree.copy(deep=True)
    values = changed["evaluation"]["val_accuracy"].load()
    values.values[0, -1] = np.nan
    values.values[1, :] = np.nan
    table = last_values(changed, "val_accuracy")
    assert table["val_accuracy"][0] == values.values[0, 1]
    assert np.isnan(table["val_accuracy"][1])
    assert table["lr"].tolist()[:4] == [0.01, 0.01, 0.01, 0.1]


def test_alpha_draws_outcome_and_map(tree):
    picture = draw_picture(tree, View(kind="alpha", width="page"))
    left, right = picture.figure.axes[:2]
    assert left.get_ylabel() == "test accuracy" and len(picture.data) == 12
    cells = right.collections[0].get_array()
    expected = picture.data.groupby(["lr", "alpha"])["test_accuracy"].mean().to_numpy()
    np.testing.assert_allclose(np.ravel(cells), expected)


def test_a_cell_without_runs_is_missing():
    table = last_values_table()
    ax = Figure().add_subplot()
    draw_alpha_map(table, "test_accuracy", ax=ax)
    assert ax.collections[0].get_array().mask.sum() == 1 and ax.patch.get_hatch()


@pytest.mark.parametrize(("metric", "rows"), [("test_accuracy", [1, 0]), ("test_loss", [0, 0])])
def test_rings_stand_at_the_best_lr_of_each_alpha(metric, rows):
    """Accuracies 0.5 and 0.6 at lr 0.1 and 1: the best is 1; as losses, it is 0.1."""
    table = last_values_table().rename(columns={"test_accuracy": metric})
    ax = Figure().add_subplot()
    draw_alpha_map(table, metric, ax=ax)
    expected = [(column + 0.5, row + 0.5) for column, row in enumerate(rows)]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), expected)


def last_values_table():
    import pandas as pd

    return pd.DataFrame(
        {"alpha": [0.0, 0.0, 0.5], "lr": [0.1, 1.0, 0.1], "test_accuracy": [0.5, 0.6, 0.7]}
    )


def test_unknown_outcomes_are_explained(tree):
    with pytest.raises(UsageError, match="unknown outcome 'test_acuracy'; did you mean"):
        draw_picture(tree, View(kind="alpha", quantity="test_acuracy"))


def test_kinds_of_one_recording_are_refused(tree):
    with pytest.raises(UsageError, match="`overview` draws one recording; of several there are"):
        draw_picture(tree, View(kind="overview"))


def test_trajectories_are_geometric_means_over_seeds_in_a_panel_a_condition(tree):
    picture = draw_picture(tree, View(kind="trajectories"))
    panels = [ax for ax in picture.figure.axes if ax.get_title(loc="left")]
    assert len(panels) == 4 and len({ax.get_ylim() for ax in panels}) == 1
    assert len({tuple(ax.get_yticks()) for ax in panels}) == 1
    titles = {" ".join(ax.get_title(loc="left").split()) for ax in panels}
    assert "α = −0.1, lr = 0.01, mean of 3 runs" in titles
    data = tree["gradients"].dataset["grad_norm"]
    weights = data.isel(param=(data["kind"] == "weight").values, run=slice(3)).values
    expected = np.exp(np.log(weights).mean(axis=0))
    np.testing.assert_allclose(panels[0].lines[1].get_ydata(), expected[:, 1], rtol=1e-5)


def test_update_ratios_name_the_rule_once(tree):
    figure = draw_picture(tree, View(kind="update-ratio")).figure
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts.count("0.001: rule of thumb") == 1
    assert sum(ax.get_title(loc="left") != "" for ax in figure.axes) == 4

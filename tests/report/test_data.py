import numpy as np
import pytest
import xarray as xr

from gradscope.errors import UsageError
from gradscope.report import data as report_data
from gradscope.report.data import (
    DEFAULT_QUANTITIES,
    RunData,
    choose_quantities,
    encode_run,
    joint_scales,
    max_columns,
    own_scale,
    read_curves,
    read_run,
)
from tests.helpers import synthetic_recording
from tests.report.pages import array, values_of


@pytest.fixture(scope="module")
def tree():
    return synthetic_recording(30, 5)


def rows_of(values, steps=None, name="grad_norm", stage=None):
    """Wrap numbers as a quantity; rows are named after their place."""
    values = np.asarray(values, dtype=float)
    steps = np.arange(1, len(values) + 1) if steps is None else np.asarray(steps)
    names = [f"layer{i}.weight" for i in range(values.shape[1])]
    coords = {"step": steps, "param": names}
    if stage is not None:
        coords["stage"] = ("param", stage)
    return xr.DataArray(values, dims=("step", "param"), coords=coords, name=name)


def encoded(rows, n_columns=1000):
    run = RunData("run", {rows.name: rows})
    return encode_run(run, joint_scales([run], [rows.name]), n_columns)


def test_the_usual_quantities_are_those_that_were_recorded(tree):
    chosen = choose_quantities([tree], None)
    assert chosen == [name for name in DEFAULT_QUANTITIES if name in chosen]
    assert {"grad_norm", "update_ratio", "output_rms"} <= set(chosen)
    only = xr.DataTree.from_dict({"/gradients": tree["gradients"].dataset[["grad_mean"]]})
    assert choose_quantities([only], None) == ["grad_mean"]


def test_quantities_that_were_asked_for_come_in_that_order_once(tree):
    assert choose_quantities([tree], ["descent", "grad_norm", "descent"]) == [
        "descent",
        "grad_norm",
    ]
    assert len(choose_quantities([tree], ["all"])) > 25
    with pytest.raises(UsageError, match="did you mean 'grad_norm'"):
        choose_quantities([tree], ["grad_nrm"])
    with pytest.raises(UsageError, match="this recording has no `noise_scale`"):
        choose_quantities([tree], ["noise_scale"])


def test_a_quantity_that_one_run_has_is_no_mistake(tree):
    other = synthetic_recording(30, 5)
    del other["activations"]
    assert choose_quantities([other, tree], ["output_rms"]) == ["output_rms"]
    run = read_run(other, "other", ["output_rms", "grad_norm"], "weight")
    assert list(run.rows) == ["grad_norm"]


def test_rows_are_weights_or_all_parameters_where_none_is_marked(tree):
    assert read_run(tree, "a", ["grad_norm"], "weight").rows["grad_norm"].sizes["param"] == 5
    plain = tree.copy()
    gradients = tree["gradients"].to_dataset()
    gradients["kind"] = ("param", np.full(gradients.sizes["param"], "other"))
    plain["gradients"] = xr.DataTree(gradients)
    assert read_run(plain, "a", ["grad_norm"], "weight").rows["grad_norm"].sizes["param"] == 18
    activations = read_run(tree, "a", ["output_rms"], "param").rows["output_rms"]
    assert activations.sizes["layer"] == 13


def test_usual_quantities_that_do_not_follow_are_left_out_but_not_silently_when_asked_for(tree):
    wanted = ["grad_norm", "signal_fraction"]
    assert list(read_run(tree, "a", wanted, "stage").rows) == ["grad_norm"]
    with pytest.raises(UsageError, match="`signal_fraction` of a stage does not follow"):
        read_run(tree, "a", wanted, "stage", is_asked=True)


def test_every_value_has_its_place_and_step():
    values = np.exp(np.random.default_rng(0).normal(size=(40, 3)))
    values[3, 1], values[5, 2] = np.nan, 0
    run = encoded(rows_of(values, steps=np.arange(10, 410, 10)))
    found, columns = values_of(run, "grad_norm")
    np.testing.assert_allclose(found.T, values, rtol=2e-4)
    assert columns["first"].tolist() == columns["last"].tolist() == list(range(10, 410, 10))
    assert (columns["count"] == 1).all() and run["columns"][0]["merged"] == 1
    np.testing.assert_array_equal(columns["edges"], np.arange(5, 406, 10))


def test_a_hole_in_the_record_is_a_missing_column_of_no_step():
    steps = np.concatenate([np.arange(1, 21), np.arange(100, 121)])
    found, columns = values_of(encoded(rows_of(np.ones((41, 2)), steps=steps)), "grad_norm")
    at = np.flatnonzero(columns["count"] == 0)
    assert at.size == 1 and np.isnan(found[:, at]).all()
    assert columns["edges"][at[0] : at[0] + 2].tolist() == [20.5, 99.5]
    assert np.isfinite(np.delete(found, at, axis=1)).all()


def test_merged_columns_hold_the_geometric_mean_and_say_of_which_steps():
    values = np.exp(np.random.default_rng(1).normal(size=(1000, 2)))
    run = encoded(rows_of(values), n_columns=100)
    found, columns = values_of(run, "grad_norm")
    assert columns["count"].sum() == 1000 and run["columns"][0]["merged"] == columns["count"].max()
    for i in (0, 50, 99):
        part = values[int(columns["first"][i]) - 1 : int(columns["last"][i])]
        assert len(part) == columns["count"][i]
        np.testing.assert_allclose(found[:, i], np.exp(np.log(part).mean(axis=0)), rtol=2e-4)


def test_columns_are_shared_by_quantities_of_the_same_steps():
    one, two = rows_of(np.ones((30, 2))), rows_of(np.ones((30, 2)), name="update_norm")
    other = rows_of(np.ones((10, 2)), steps=np.arange(3, 33, 3), name="output_rms")
    run = RunData("run", {rows.name: rows for rows in (one, two, other)})
    found = encode_run(run, joint_scales([run], list(run.rows)), 1000)
    assert [found["grids"][name]["columns"] for name in run.rows] == [0, 0, 1]


def test_colours_are_those_of_all_runs_and_what_has_no_number_has_none():
    small, large = rows_of(np.full((5, 2), 1e-3)), rows_of(np.full((5, 4), 10.0))
    nothing = rows_of(np.full((5, 4), np.nan), name="noise_scale")
    runs = [
        RunData("a", {"grad_norm": small}),
        RunData("b", {"grad_norm": large, "noise_scale": nothing}),
    ]
    scales = joint_scales(runs, ["grad_norm", "noise_scale", "descent"])
    assert list(scales) == ["grad_norm"]
    assert (scales["grad_norm"].low, scales["grad_norm"].high) == (1e-3, 10)
    empty = RunData("c", {"grad_norm": rows_of(np.full((5, 2), np.nan))})
    assert np.isnan(values_of(encode_run(empty, scales, 100), "grad_norm")[0]).all()


def test_each_run_also_has_the_colours_of_its_own():
    healthy, diverged = rows_of(np.geomspace(0.1, 1, 10)[:, None]), rows_of(np.full((10, 1), 1e9))
    runs = [RunData(name, {"grad_norm": rows}) for name, rows in (("a", healthy), ("b", diverged))]
    scales = joint_scales(runs, ["grad_norm"])
    own = encode_run(runs[0], scales, 100)["grids"]["grad_norm"]["scale"]
    assert scales["grad_norm"].high == 1e9
    assert (own["kind"], own["low"], own["high"]) == ("log", 0.1, 1.0)


def test_a_scale_of_another_kind_than_that_of_all_runs_is_not_used():
    signed = joint_scales([RunData("a", {"x": rows_of([[-1.0, 2.0]], name="x")})], ["x"])["x"]
    assert own_scale(rows_of([[1.0, 2.0]], name="x"), signed) is signed
    assert own_scale(rows_of([[np.nan, np.nan]], name="x"), signed) is signed


def test_rows_of_a_bare_sequence_say_what_they_are():
    rows = rows_of(np.ones((5, 2))).assign_coords(param=["0.weight", "2.weight"])
    rows = rows.assign_coords(layer_type=("param", ["Linear", "Conv2d"]))
    assert encoded(rows)["grids"]["grad_norm"]["short"] == ["0 (Linear)", "2 (Conv2d)"]


def test_stages_are_borders_between_rows():
    run = encoded(rows_of(np.ones((5, 5)), stage=[0, 0, 0, 1, 1]))
    assert run["grids"]["grad_norm"]["borders"] == [2.5]


def test_cells_are_shared_fairly(monkeypatch):
    monkeypatch.setattr(report_data, "MAX_CELLS", 12_000)
    runs = [RunData(name, {"grad_norm": rows_of(np.ones((5, 4)))}) for name in "abc"]
    scales = joint_scales(runs, ["grad_norm"])
    assert max_columns(runs, scales) == 1000
    assert max_columns(runs * 100, scales) == report_data.MIN_COLUMNS


def test_losses_of_training_and_evaluation(tree):
    curves = {curve["name"]: curve for curve in read_curves(tree)}
    assert set(curves) == {"loss", "train_loss", "val_loss", "test_loss"}
    assert curves["loss"]["step"] == list(range(1, 31))
    np.testing.assert_allclose(curves["loss"]["value"], tree["training/loss"], rtol=1e-5)
    assert curves["val_loss"]["label"] == "cross-entropy on the validation split (nat)"


def test_a_long_loss_keeps_its_spikes_in_the_range_and_gaps_stay_gaps():
    loss = np.ones(20_000)
    loss[12_345] = 50.0
    loss[:100] = np.nan
    training = xr.Dataset({"loss": ("step", loss)}, coords={"step": np.arange(1, 20_001)})
    (curve,) = read_curves(xr.DataTree.from_dict({"/training": training}))
    assert max(filter(None, curve["high"])) == 50 and min(filter(None, curve["low"])) == 1
    assert curve["value"][0] is None and len(curve["value"]) <= report_data.MAX_POINTS
    assert array("AAAAAAAA8D8=", "f8") == [1.0]  # the byte order that the page reads

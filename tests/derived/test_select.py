import numpy as np
import pytest
import xarray as xr

from gradscope.derived.select import quantities, row_dim, select
from gradscope.errors import UsageError
from tests.helpers import synthetic_recording


@pytest.fixture(scope="module")
def tree():
    return synthetic_recording(20, 5)


def test_default_is_the_weight_of_each_weight_layer_in_network_order(tree):
    data = select(tree, "grad_norm")
    names = [f"features.{3 * depth}.weight" for depth in range(4)] + ["classifier.weight"]
    assert data["param"].values.tolist() == names
    assert data["depth"].values.tolist() == [0, 1, 2, 3, 4]
    assert data.attrs["long_name"] == "gradient norm"


def with_trained(tree, names):
    changed = tree.copy()
    data = tree["gradients"].to_dataset()
    trains = np.isin(data["param"].values, names)
    changed["gradients"] = data.assign_coords(requires_grad=("param", trains))
    return changed


def test_where_all_weights_are_frozen_what_trains_is_shown(tree):
    names = ["features.1.bias", "features.4.bias"]
    frozen = select(with_trained(tree, names), "grad_norm")
    assert frozen["param"].values.tolist() == names
    mixed = select(with_trained(tree, [*names, "classifier.weight"]), "grad_norm")
    assert mixed["param"].values.tolist() == select(tree, "grad_norm")["param"].values.tolist()


def test_weights_of_any_run_are_shown_where_kinds_differ(tree):
    data = tree["gradients"].to_dataset()
    kinds = np.stack([data["kind"].values] * 2).astype("<U20")
    kinds[1, kinds[0] == "bias"] = "dead_bias"
    runs = xr.concat([data, data], xr.Variable("run", ["a", "b"]), coords="minimal")
    runs = runs.assign_coords(kind=(("run", "param"), kinds))
    shown = select(xr.DataTree.from_dict({"/gradients": runs}), "grad_norm")
    assert shown["param"].values.tolist() == select(tree, "grad_norm")["param"].values.tolist()


def test_by_param_keeps_all(tree):
    assert select(tree, "grad_norm", by="param").sizes["param"] == 4 * 4 + 2


def test_by_layer_is_the_root_sum_square(tree):
    data = select(tree, "grad_norm", by="layer")
    source = tree["gradients/grad_norm"]
    parts = source.isel(param=source["layer"] == "features.3").values.astype(float)
    expected = np.sqrt((parts**2).sum(axis=1))
    np.testing.assert_allclose(data.sel(layer="features.3"), expected, rtol=1e-6)
    assert data["layer"].values[:3].tolist() == ["features.0", "features.1", "features.3"]


def test_by_layer_is_missing_only_where_all_is_missing_and_loses_no_small_norm(tree):
    changed = tree.copy(deep=True)
    norm = changed["gradients"]["grad_norm"]
    is_layer = norm["layer"].values == "features.0"
    norm.values[0, is_layer] = np.nan
    norm.values[1, np.flatnonzero(is_layer)[0]] = np.nan
    norm.values[2, is_layer] = 1e-30
    norm.values[3, is_layer] = 0
    layer = select(changed, "grad_norm", by="layer").sel(layer="features.0").values
    assert np.isnan(layer[0]) and np.isfinite(layer[1])
    assert layer[2] == pytest.approx(1e-30 * np.sqrt(is_layer.sum()))
    assert layer[3] == 0


def test_by_layer_unites_what_follows_exactly(tree):
    data = select(tree, "grad_abs_max", by="stage")
    source = tree["gradients/grad_abs_max"]
    parts = source.isel(param=source["stage"] == 0)
    np.testing.assert_allclose(data.sel(stage=0), parts.max("param"), rtol=1e-6)
    ratio = select(tree, "update_ratio", by="layer").sel(layer="features.3")
    norms = [
        select(tree, name, by="layer").sel(layer="features.3")
        for name in ("update_norm", "param_norm")
    ]
    np.testing.assert_allclose(ratio, norms[0] / norms[1], rtol=1e-6)


def test_rows_may_be_types_of_layers(tree):
    data = select(tree, "grad_norm", by="layer_type")
    assert data["layer_type"].values.tolist() == ["Conv2d", "BatchNorm2d", "Linear"]


def test_activations_have_layers_and_default_to_weight_layers(tree):
    data = select(tree, "output_rms")
    assert row_dim(data) == "layer" and data.sizes["layer"] == 5
    assert select(tree, "output_rms", by="layer").sizes["layer"] == 3 * 4 + 1
    with pytest.raises(UsageError, match="belongs to layers"):
        select(tree, "output_rms", by="param")


def test_steps_and_layers_choose(tree):
    data = select(tree, "grad_norm", steps=(5, 7), layers=r"^features\.[36]\.")
    assert data["step"].values.tolist() == [5, 6, 7]
    assert data["depth"].values.tolist() == [1, 2]
    assert select(tree, "grad_norm", steps=(None, 2)).sizes["step"] == 2


def test_missing_counts_are_missing(tree):
    changed = tree.copy(deep=True)
    changed["gradients"]["grad_nonfinite"].values[0, 0] = -1
    data = select(changed, "grad_nonfinite")
    assert np.isnan(data.values[0, 0]) and data.values[1, 0] >= 0


@pytest.mark.parametrize(
    ("quantity", "options", "message"),
    [
        ("grad_nrm", {}, "unknown quantity 'grad_nrm'; did you mean 'grad_norm'"),
        ("loss", {}, "`loss` in /training has no layers"),
        ("noise_scale", {}, "this recording has no `noise_scale`; it has: .*grad_norm"),
        ("grad_norm", {"by": "colour"}, "unknown grouping 'colour'"),
        ("grad_norm", {"layers": "("}, "no regular expression"),
        ("grad_norm", {"layers": "xyz"}, "no row matches 'xyz'; there are: features.0"),
        ("grad_norm", {"steps": (30, 40)}, "no recorded step in 30:40; .* 1 to 20"),
    ],
)
def test_mistakes_are_explained(tree, quantity, options, message):
    with pytest.raises(UsageError, match=message):
        select(tree, quantity, **options)


def test_an_empty_recording_says_so():
    with pytest.raises(UsageError, match="nothing was recorded yet"):
        select(xr.DataTree(), "grad_norm")


def test_quantities_are_those_over_steps_and_rows(tree):
    known = quantities(tree)
    assert {"grad_norm", "update_ratio", "output_rms"} <= set(known)
    assert "loss" not in known and "lr" not in known

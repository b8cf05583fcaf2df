"""Aggregates of tensors against the same statistics of the concatenated entries."""

import numpy as np
import pytest
import xarray as xr

from gradscope.derived.aggregate import aggregate
from gradscope.errors import UsageError

SIZES = {"a.weight": 40, "a.bias": 5, "b.weight": 300}
STAGES = [0, 0, 1]
STEPS = [1, 2, 3]


@pytest.fixture
def entries():
    """Gradient, update, parameter and second-moment entries, by step and parameter."""
    rng = np.random.default_rng(7)
    found = {}
    for step in STEPS:
        for name, n in SIZES.items():
            g = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 3)
            g[: n // 5] = 0
            v = rng.lognormal(-10, 3, n)
            v[: n // 4] = 0
            u, theta = -0.1 * g + 0.01 * rng.standard_normal(n), rng.standard_normal(n)
            y = rng.standard_normal(n)
            found[step, name] = {"g": g, "v": v, "u": u, "theta": theta, "m": 0.3 * g, "y": y}
    return found


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def statistics(e, beta2=0.99, step=3):
    """Every aggregated statistic, computed from the entries themselves."""
    g, v, u, theta = e["g"], e["v"], e["u"], e["theta"]
    log_v = np.log(v[v > 0])
    v_hat = v / (1 - beta2**step)
    return {
        "gradients": {
            "grad_norm": np.linalg.norm(g),
            "grad_mean": g.mean(),
            "grad_abs_mean": np.abs(g).mean(),
            "grad_abs_max": np.abs(g).max(),
            "grad_kurtosis": (g**4).mean() / (g**2).mean() ** 2,
            "grad_zero_fraction": (g == 0).mean(),
            "grad_nonfinite": 0.0,
            "grad_param_cosine": cosine(g, theta),
            "grad_rms": np.sqrt((g**2).mean()),
        },
        "second_moments": {
            "exp_avg_sq_mean": v.mean(),
            "exp_avg_sq_max": v.max(),
            "log_exp_avg_sq_mean": log_v.mean(),
            "log_exp_avg_sq_var": log_v.var(),
            "exp_avg_sq_zero_fraction": (v == 0).mean(),
            "exp_avg_norm": np.linalg.norm(e["m"]),
            "exp_avg_sq_hat_mean": v_hat.mean(),
            "signal_fraction": (e["m"] ** 2).sum() / v_hat.sum(),
            "epsilon_fraction": (v_hat**0.5 <= 1e-2).mean(),
            "state_step": float(step),
        },
        "updates": {
            "update_norm": np.linalg.norm(u),
            "param_norm": np.linalg.norm(theta),
            "update_grad_cosine": cosine(u, g),
            "update_param_cosine": cosine(u, theta),
            "descent": -(g @ u),
            "update_ratio": np.linalg.norm(u) / np.linalg.norm(theta),
            "grad_param_product": np.linalg.norm(g) * np.linalg.norm(theta),
            "effective_lr": np.linalg.norm(u) / np.linalg.norm(g),
        },
    }


def tree_of(entries):
    """A recording of these entries, in float64 so that only the formulas are tested."""
    rows = {key: statistics(e) for key, e in entries.items()}
    coords = {
        "step": STEPS,
        "param": list(SIZES),
        "layer": ("param", ["a", "a", "b"]),
        "stage": ("param", STAGES),
        "numel": ("param", list(SIZES.values())),
    }
    nodes = {}
    for group, names in rows[1, "a.weight"].items():
        data = {
            name: (("step", "param"), [[rows[s, p][group][name] for p in SIZES] for s in STEPS])
            for name in names
        }
        nodes[group] = xr.Dataset(data, coords)
    return xr.DataTree.from_dict(nodes)


@pytest.mark.parametrize(
    ("by", "sets"),
    [
        ("layer", {"a": ["a.weight", "a.bias"], "b": ["b.weight"]}),
        ("stage", {0: ["a.weight", "a.bias"], 1: ["b.weight"]}),
        ("all", {0: list(SIZES)}),
    ],
)
def test_aggregates_equal_statistics_of_all_entries(entries, by, sets):
    aggregated = aggregate(tree_of(entries), by=by)
    for key, params in sets.items():
        for step in STEPS:
            parts = [entries[step, p] for p in params]
            together = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
            for group, expected in statistics(together).items():
                for name, value in expected.items():
                    got = aggregated[group][name].sel({by: key, "step": step}).item()
                    assert got == pytest.approx(value, rel=1e-9, abs=1e-12), (group, name)
    assert aggregated["gradients"]["numel"].sum() == sum(SIZES.values())


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero)")  # of the one alone
def test_a_parameter_without_gradient_is_part_of_its_layer(entries):
    for step in STEPS:
        entries[step, "a.bias"] |= {"g": np.zeros(5), "m": np.zeros(5)}
    aggregated = aggregate(tree_of(entries), by="layer")
    for step in STEPS:
        parts = [entries[step, p] for p in ("a.weight", "a.bias")]
        together = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        for group, expected in statistics(together).items():
            for name, value in expected.items():
                got = aggregated[group][name].sel(layer="a", step=step).item()
                assert got == pytest.approx(value, rel=1e-9, abs=1e-12), (group, name)


def test_missing_parameters_are_left_out_and_all_missing_is_missing(entries):
    tree = tree_of(entries)
    norm = tree["gradients"]["grad_norm"].values
    norm[0, 1] = np.nan
    norm[1, :2] = np.nan
    got = aggregate(tree, by="layer")["gradients"]["grad_norm"].sel(layer="a").values
    assert got[0] == norm[0, 0]
    assert np.isnan(got[1])


def test_histograms_add_and_their_bins_stay():
    counts = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    dataset = xr.Dataset(
        {"grad_histogram": (("step", "param", "grad_bin"), counts)},
        {"param": list("abc"), "layer": ("param", ["x", "y", "x"]), "step": [1, 2]},
    )
    got = aggregate(xr.DataTree.from_dict({"histograms": dataset}))["histograms"]["grad_histogram"]
    assert got.dims == ("step", "layer", "grad_bin")
    np.testing.assert_array_equal(got.sel(layer="x"), counts[:, 0] + counts[:, 2])


def test_activations_pool_over_their_entries():
    rng = np.random.default_rng(1)
    outputs = {"r1": rng.standard_normal(10), "r2": 3 + rng.standard_normal(90)}
    together = np.concatenate(list(outputs.values()))
    data = {
        "output_mean": [y.mean() for y in outputs.values()],
        "output_rms": [np.sqrt((y**2).mean()) for y in outputs.values()],
        "output_abs_max": [np.abs(y).max() for y in outputs.values()],
        "output_numel": [float(len(y)) for y in outputs.values()],
    }
    dataset = xr.Dataset(
        {name: (("step", "layer"), [values]) for name, values in data.items()},
        {"step": [1], "layer": list(outputs), "layer_type": ("layer", ["ReLU", "ReLU"])},
    )
    got = aggregate(xr.DataTree.from_dict({"activations": dataset}), by="layer_type")["activations"]
    assert got["output_mean"].item() == pytest.approx(together.mean())
    assert got["output_rms"].item() == pytest.approx(np.sqrt((together**2).mean()))
    assert got["output_abs_max"].item() == np.abs(together).max()
    assert got["output_numel"].item() == 100


def test_an_unknown_coordinate_is_named_with_those_there(entries):
    with pytest.raises(UsageError, match="unknown coordinate 'stagr'; did you mean 'stage'"):
        aggregate(tree_of(entries), by="stagr")

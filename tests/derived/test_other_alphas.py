"""Shadow alpha against the multiplier computed from every entry."""

import numpy as np
import pytest
import xarray as xr

from gradscope import schema
from gradscope.derived.other_alphas import shadow_alpha
from gradscope.errors import RecordingError

BETA1, BETA2, EPS, LR, STEP = 0.9, 0.999, 1e-8, 0.01, 50
ALPHAS = (-0.5, -0.3, 0.0, 0.1, 0.5, 1.0)


@pytest.fixture
def moments():
    rng = np.random.default_rng(3)
    v = np.exp(rng.normal(-18, 2.5, (2, 4000)))
    v[1, :1000] = 0
    m_hat = np.sqrt(0.05 * v / (1 - BETA2**STEP)) * rng.choice([-1, 1], v.shape)
    return v, m_hat


def tree_of(v, m_hat):
    first, last = schema.MOMENT_BIN_RANGE
    bins = np.arange(first, last + 1)
    counts = [np.histogram(row[row > 0], bins=2.0 ** np.arange(first, last + 2))[0] for row in v]
    v_hat = v / (1 - BETA2**STEP)
    coords = {"step": [STEP], "param": ["w", "x"], "param_group": ("param", [0, 0])}
    at = ("step", "param")
    hyper = {"beta2": BETA2, "eps": EPS, "lr": LR}
    return xr.DataTree.from_dict(
        {
            "histograms": xr.Dataset(
                {
                    "exp_avg_sq_histogram": ((*at, "moment_bin"), [counts]),
                    "exp_avg_sq_histogram_zero": (at, [(v == 0).sum(1)]),
                },
                {**coords, "moment_bin": bins},
            ),
            "second_moments": xr.Dataset(
                {
                    "state_step": (at, [[STEP, STEP]]),
                    "signal_fraction": (at, [(m_hat**2).sum(1) / v_hat.sum(1)]),
                },
                coords,
            ),
            "training": xr.Dataset(
                {name: (("step", "param_group"), [[value]]) for name, value in hyper.items()},
                {"step": [STEP], "param_group": [0]},
            ),
        }
    )


def test_multiplier_is_exact_to_half_an_octave_times_alpha(moments):
    v, m_hat = moments
    got = shadow_alpha(tree_of(v, m_hat), ALPHAS)["shadow_multiplier"]
    for i, row in enumerate(v):
        v_hat = row[row > 0] / (1 - BETA2**STEP)
        for alpha in ALPHAS:
            exact = (1 / (v_hat**alpha + EPS)).mean()
            error = np.log2(got.sel(alpha=alpha).values[0, i] / exact)
            assert abs(error) <= abs(alpha) / 2 + 1e-9, (alpha, error)


def test_update_follows_the_update_law(moments):
    v, m_hat = moments
    got = shadow_alpha(tree_of(v, m_hat), ALPHAS)["shadow_update_rms"]
    for i in range(2):
        is_there = v[i] > 0
        v_hat = v[i][is_there] / (1 - BETA2**STEP)
        for alpha in ALPHAS:
            update = LR * m_hat[i][is_there] / (v_hat**alpha + EPS)
            exact = np.sqrt((update**2).sum() / v.shape[1])
            error = np.log(got.sel(alpha=alpha).values[0, i] / exact)
            # Half an octave of v_hat, to the power (1 - 2 alpha) / 2; a little for epsilon.
            assert abs(error) <= np.log(2) / 4 * abs(1 - 2 * alpha) + 0.02, (alpha, error)


def test_moments_beyond_the_bins_are_missing(moments):
    tree = tree_of(*moments)
    over = (("step", "param"), [[1.0, 0.0]])
    tree["histograms"] = tree["histograms"].to_dataset().assign(exp_avg_sq_histogram_over=over)
    got = shadow_alpha(tree, [0.5])["shadow_multiplier"].values
    assert np.isnan(got[0, 0, 0])
    assert np.isfinite(got[0, 0, 1])


def test_unknown_hyper_parameters_and_moments_are_missing(moments):
    """Of a histogram ahead of other groups, and of a parameter in no optimizer."""
    whole = tree_of(*moments)
    exact = shadow_alpha(whole, ALPHAS)
    late = whole["histograms"].to_dataset()
    late = xr.concat([late, late.assign_coords(step=[STEP + 1])], "step", data_vars="minimal")
    groups = {f"/{name}": node.to_dataset() for name, node in whole.children.items()}
    longer = {k: v.reindex(step=[STEP, STEP + 1], method="ffill") for k, v in groups.items()}
    for behind in ("/training", "/second_moments"):
        tree = xr.DataTree.from_dict({**longer, behind: groups[behind], "/histograms": late})
        got = shadow_alpha(tree, ALPHAS)
        xr.testing.assert_allclose(got.sel(step=[STEP]), exact)
        assert all(np.isnan(got[name].sel(step=STEP + 1)).all() for name in got)
    outside = {
        k: v.assign_coords(param_group=("param", [0, -1])) if "param" in v.dims else v
        for k, v in groups.items()
    }
    got = shadow_alpha(xr.DataTree.from_dict(outside), ALPHAS)
    for name in got:
        np.testing.assert_allclose(got[name].values[..., 0], exact[name].values[..., 0])
        assert np.isnan(got[name].values[..., 1]).all()


def test_says_what_was_not_recorded():
    with pytest.raises(RecordingError, match="/histograms/exp_avg_sq_histogram, which was not"):
        shadow_alpha(xr.DataTree(), [0.5])

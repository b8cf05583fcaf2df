import json

import numpy as np
import pytest
from scipy import stats

from gradscope.derived.compare.conditions import conditions_by_label, conditions_by_setting
from gradscope.derived.compare.maps import compare_runs
from gradscope.errors import UsageError
from tests.planted import planted_runs


def compared(tree, **options):
    data = tree["gradients"].dataset["grad_norm"].load()
    return compare_runs(tree, data, conditions_by_setting(tree), **options)


def test_finds_the_planted_step_and_layer():
    comparison = compared(planted_runs(factor=10.0, from_step=10, layer=2, noise=0.05))
    (one,) = comparison.maps
    assert (one.first.at, one.first.layer, one.first.row) == (10, "layers.2.weight", 2)
    assert one.first.effect == pytest.approx(np.log(10), abs=0.15)
    assert one.first.p_value == 2 / 2**6
    assert one.first.share == 11 / 80
    assert one.note == "paired by seed"


def test_a_whole_map_errs_at_most_as_often_as_asked():
    found = [compared(planted_runs(rng=rng, n_steps=8)).maps[0].first for rng in range(200)]
    n_false = sum(first is not None for first in found)
    assert n_false <= stats.binom.ppf(0.999, 200, 0.05)


def test_effects_are_ratios_of_geometric_means():
    tree = planted_runs(n_seeds=3, factor=4.0, from_step=1, noise=0.3)
    logs = np.log(tree["gradients/grad_norm"].values)
    expected = logs[3:].mean(axis=0) - logs[:3].mean(axis=0)
    comparison = compared(tree)
    assert comparison.is_ratio
    np.testing.assert_allclose(comparison.maps[0].effect.values, expected, atol=1e-12)


def test_signed_quantities_are_compared_by_differences():
    tree = planted_runs(n_seeds=2)
    data = np.log(tree["gradients"].dataset["grad_norm"].load()).rename("grad_mean")
    comparison = compare_runs(tree, data, conditions_by_setting(tree))
    assert not comparison.is_ratio
    expected = data.values[2:].mean(axis=0) - data.values[:2].mean(axis=0)
    np.testing.assert_allclose(comparison.maps[0].effect.values, expected, atol=1e-12)


def test_one_run_has_no_band():
    comparison = compared(planted_runs(factor=100.0).isel(run=[0, 6, 7]))
    (one,) = comparison.maps
    assert one.p_value is None and one.first is None
    assert one.note == "no seed band: one run only of alpha = 0"
    assert "no seed band" in str(comparison)


def test_too_few_pairs_are_said():
    note = compared(planted_runs(n_seeds=5)).maps[0].note
    assert note == "no seed band: 5 pairs of runs give no p below 0.0625; 6 would do"
    assert compared(planted_runs(n_seeds=5), confidence=0.9).maps[0].p_value is not None


def test_several_conditions_share_one_error_rate():
    tree = planted_runs(n_seeds=6, factor=10.0)
    three = conditions_by_label(tree, ["A"] * 6 + ["B"] * 3 + ["C"] * 3)
    data = tree["gradients"].dataset["grad_norm"].load()
    notes = [one.note for one in compare_runs(tree, data, three).maps]
    assert notes == ["no seed band: 3 pairs of runs give no p below 0.25; 7 would do"] * 2


def test_zeros_and_missing_cells_are_missing():
    tree = planted_runs(factor=2.0).copy(deep=True)
    values = tree["gradients"]["grad_norm"].values
    values[:6, 3, 0] = 0.0
    values[0, 5, 1] = np.nan
    (one,) = compared(tree).maps
    assert np.isnan(one.effect.values[3, 0])
    assert np.isfinite(one.effect.values[5, 1]) and np.isnan(one.p_value.values[5, 1])


def test_outcomes_are_means_with_intervals():
    outcomes = {(o.metric, o.condition): o for o in compared(planted_runs()).final_metrics}
    values = 0.9 + 0.01 * np.arange(6)
    own = outcomes["val_accuracy", "alpha = 0.5"]
    half = stats.t.ppf(0.975, 5) * values.std(ddof=1) / np.sqrt(6)
    assert own.mean == pytest.approx(values.mean())
    assert (own.low, own.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert own.difference == pytest.approx(0.1)
    assert np.isnan(outcomes["val_accuracy", "alpha = 0"].difference)
    assert outcomes["val_loss", "alpha = 0"].mean == pytest.approx(3 * np.exp(-2))


def test_unfinished_runs_are_counted():
    tree = planted_runs(n_seeds=2)
    status = ("run", ["finished", "diverged", "finished", "finished"])
    comparison = compared(tree.map_over_datasets(lambda node: node.assign_coords(status=status)))
    assert [one.n_unfinished for one in comparison.final_metrics[:2]] == [1, 0]
    assert "runs not finished" in str(comparison)


def test_settings_list_what_differs_once():
    tree = planted_runs(n_seeds=2)
    repeated = {"optimizer.alpha": tree.dataset["alpha"].variable}
    comparison = compared(tree.map_over_datasets(lambda node: node.assign_coords(repeated)))
    assert comparison.settings == {"alpha": ("0", "0.5"), "seed": ("0, 1", "0, 1")}


def test_text_and_json_say_the_same():
    comparison = compared(planted_runs(factor=10.0, noise=0.05))
    text, found = str(comparison), json.loads(json.dumps(comparison.as_dict()))
    assert "first outside the seed band: step 10, layers.2.weight: ×" in text
    assert found["maps"][0]["first_outside"]["layer"] == "layers.2.weight"
    assert found["settings"]["alpha"] == ["0", "0.5"]
    assert "val accuracy (%)" in text and "+10.00" in text


def test_more_conditions_than_letters_are_refused():
    tree = planted_runs(n_seeds=14, n_steps=2)
    data = tree["gradients"].dataset["grad_norm"].load()
    with pytest.raises(UsageError, match="at most 26 conditions can be compared at once; got 28"):
        compare_runs(tree, data, conditions_by_label(tree, [f"c{i}" for i in range(28)]))


def test_replicates_alone_are_refused():
    tree = planted_runs()
    data = tree["gradients"].dataset["grad_norm"].load()
    with pytest.raises(UsageError, match="nothing to compare"):
        compare_runs(tree, data, conditions_by_label(tree, ["A"] * 12))
    with pytest.raises(UsageError, match="`confidence` must lie between 0 and 1; got 2"):
        compared(tree, confidence=2)

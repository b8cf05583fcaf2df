import numpy as np
import pytest
import xarray as xr

from gradscope.derived.health.check import SEVERITIES, check_health
from gradscope.store.read.recording import open_recording
from tests.derived.health.health_trees import drop, healthy, write
from tests.helpers import synthetic_columns, write_recording

GROUPS = ("training", "gradients", "updates", "activations")


def test_a_healthy_run_has_no_finding():
    assert check_health(healthy()) == ()
    assert check_health(healthy(), window=20) == ()


@pytest.mark.parametrize("missing", GROUPS)
def test_each_group_may_be_missing(missing):
    assert check_health(drop(healthy(), missing)) == ()
    only = [name for name in GROUPS if name != missing]
    assert check_health(drop(healthy(), *only)) == ()


def test_nothing_at_all_is_no_finding():
    assert check_health(xr.DataTree()) == ()
    assert check_health(healthy(n_steps=1)) == ()


def test_worst_comes_first_and_what_follows_becomes_a_note():
    tree = write(healthy(), "activations/output_zero_fraction", 1.0, slice(5, None), 7)
    tree = write(tree, "gradients/grad_norm", 0.0, slice(5, None), slice(0, 4))
    tree = write(tree, "training/loss", 2.3)
    findings = check_health(tree)
    assert [f.rule for f in findings] == ["dead ReLU", "stalled loss"]
    assert findings[0].severity == "error"
    assert findings[1].severity == "note"
    assert findings[1].message.endswith("(follows from: dead ReLU)")
    ranks = [SEVERITIES.index(f.severity) for f in findings]
    assert ranks == sorted(ranks)


def test_a_window_looks_at_the_last_rows_only():
    early = write(healthy(), "gradients/grad_nonfinite", 1, 3)
    assert [f.rule for f in check_health(early)] == ["non-finite values"]
    assert check_health(early, window=50) == ()
    diverging = write(healthy(), "training/loss", np.linspace(2.3, 9, 120))
    assert "diverged loss" in {f.rule for f in check_health(diverging, window=30)}


@pytest.mark.parametrize("window", [0, -3])
def test_a_window_without_rows_is_refused(window):
    with pytest.raises(ValueError, match=f"at least 1 row; got {window}"):
        check_health(healthy(), window=window)


def test_several_runs_are_refused():
    tree = healthy()
    many = xr.DataTree.from_dict(
        {"training": tree["training"].to_dataset(inherit=False).expand_dims(run=["a", "b"])}
    )
    with pytest.raises(ValueError, match="of one run"):
        check_health(many)


def test_a_recording_on_disk_is_read_like_the_tree_in_memory(tmp_path):
    columns, _, _ = synthetic_columns(60, 6, seed=1)
    path = write_recording(tmp_path / "run.h5", 60, 6, seed=1)
    assert np.isfinite(columns["training"]["loss"]).all()
    tree = open_recording(path)
    findings = check_health(tree)
    in_memory = xr.DataTree.from_dict(
        {node.path: node.to_dataset(inherit=False).load() for node in tree.subtree}
    )
    assert check_health(in_memory) == findings
    tree.close()


def test_a_long_recording_is_thinned_but_single_bad_steps_are_seen():
    tree = healthy(n_steps=5000, n_layers=4)
    bad = write(tree, "gradients/grad_nonfinite", 1, 3333, 2)
    (finding,) = check_health(bad)
    assert (finding.first_step, finding.layers) == (3334, ("layers.4.weight",))


def cut(tree, group, n_rows):
    """Return the tree with the first rows of a group only."""
    tree = tree.copy(deep=True)
    tree[group] = xr.DataTree(tree[group].to_dataset(inherit=False).isel(step=slice(n_rows)))
    return tree


@pytest.mark.parametrize("n_steps", [120, 801, 802])  # 401 rows and more are thinned
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_may_lag_behind_while_a_recording_is_written(group, n_steps):
    frozen = write(healthy(n_steps), "updates/update_norm", 0.0, columns=2)
    dead = write(healthy(n_steps), "gradients/grad_norm", 0.0, columns=2)
    for n_rows in (n_steps - 1, n_steps - 7):
        for window in (None, 100, 701):
            assert check_health(cut(healthy(n_steps), group, n_rows), window=window) == ()
            for tree in (frozen, dead):
                (finding,) = check_health(cut(tree, group, n_rows), window=window)
                assert (finding.rule, finding.layers) == ("frozen layer", ("layers.4.weight",))


def frozen_layers(tree, **options):
    findings = check_health(tree, **options)
    assert {finding.rule for finding in findings} <= {"frozen layer"}
    return [(finding.message.partition(":")[0], finding.layers) for finding in findings]


def test_parameters_of_two_groups_are_paired_by_name():
    tree = write(healthy(), "updates/update_norm", 0.0, columns=2)
    expected = [("have gradients and never change", ("layers.4.weight",))]
    for order in ([*range(7, -1, -1)], [*range(7)], [2, 0]):
        updates = tree["updates"].to_dataset(inherit=False).isel(param=order)
        other = tree.copy(deep=True)
        other["updates"] = xr.DataTree(updates)
        assert frozen_layers(other) == expected


@pytest.mark.parametrize("steps", [slice(0, 20_000), slice(0, 20_001), slice(1, None)])
def test_two_groups_are_thinned_together(steps):
    tree = write(healthy(20_010), "updates/update_norm", 0.0, columns=2)
    tree = write(tree, "gradients/grad_norm", 0.0, columns=3)
    tree["updates"] = xr.DataTree(tree["updates"].to_dataset(inherit=False).isel(step=steps))
    for window in (None, 401, 20_005):
        words = dict(frozen_layers(tree, window=window))
        assert words == {
            "gradients are exactly zero in": ("layers.6.weight",),
            "have gradients and never change": ("layers.4.weight",),
        }


def test_a_parameter_seen_late_has_gradients_though_updates_lag_behind():
    tree = write(healthy(200), "gradients/grad_norm", np.nan, slice(0, 100), 2)
    assert check_health(tree) == check_health(cut(tree, "updates", 100)) == ()

import numpy as np
import pytest
import xarray as xr

from gradscope.derived.compare.conditions import (
    Condition,
    conditions_by_label,
    conditions_by_setting,
    pair_runs,
)
from gradscope.errors import UsageError
from gradscope.store.read.runs import open_runs
from gradscope.store.write.writer import RecordingWriter
from tests.planted import planted_runs


def runs(**columns):
    n_runs = len(next(iter(columns.values())))
    coords = {name: ("run", np.array(values)) for name, values in columns.items()}
    return xr.DataTree(xr.Dataset(coords={"run": [f"r{i}" for i in range(n_runs)], **coords}))


def test_runs_that_differ_in_their_seed_are_one_side():
    first, second = conditions_by_setting(planted_runs(n_seeds=3))
    assert (first.name, first.runs, first.seeds) == ("alpha = 0", (0, 1, 2), ("0", "1", "2"))
    assert (second.name, second.runs) == ("alpha = 0.5", (3, 4, 5))


def test_conditions_are_named_by_every_setting_that_differs():
    tree = runs(lr=[0.1, 0.1, 0.01, 0.01], alpha=[0, 0.5, 0, 0.5], note=["a", "b", "c", "d"])
    names = [condition.name for condition in conditions_by_setting(tree)]
    assert names == [
        "alpha = 0, lr = 0.1, note = a",
        "alpha = 0.5, lr = 0.1, note = b",
        "alpha = 0, lr = 0.01, note = c",
        "alpha = 0.5, lr = 0.01, note = d",
    ]


def test_over_pools_what_else_differs():
    tree = runs(lr=[0.1, 0.1, 0.01, 0.01], alpha=[0, 0.5, 0, 0.5])
    assert [condition.runs for condition in conditions_by_setting(tree, ["alpha"])] == [
        (0, 2),
        (1, 3),
    ]


def test_a_missing_setting_is_a_value_of_its_own():
    tree = runs(clip=[np.nan, np.nan, 1.0], seed=[0, 1, 0])
    assert [condition.name for condition in conditions_by_setting(tree)] == ["clip = —", "clip = 1"]


def test_machines_and_accidents_make_no_conditions():
    tree = runs(device=["cpu", "cuda"], record_bytes=[1, 2], git_commit=["a", "b"], seed=[0, 1])
    assert len(conditions_by_setting(tree)) == 1


def test_errors_name_what_differs():
    tree = planted_runs(n_seeds=1)
    with pytest.raises(UsageError, match="do not differ in 'lr'; they differ in: alpha"):
        conditions_by_setting(tree, ["lr"])
    with pytest.raises(UsageError, match="two runs at least"):
        conditions_by_setting(tree.isel(run=[0]))
    with pytest.raises(UsageError, match="3 labels for 2 runs"):
        conditions_by_label(tree, ["a", "b", "c"])


def test_pairs_follow_seeds_else_their_order():
    first = Condition(name="A", runs=(0, 1), seeds=("2", "10"))
    swapped = Condition(name="B", runs=(2, 3), seeds=("10", "2"))
    assert pair_runs(first, swapped) == ([(0, 3), (1, 2)], "paired by seed")
    others = Condition(name="C", runs=(4, 5, 6), seeds=("12", "3", "4"))
    pairs, words = pair_runs(first, others)
    assert pairs == [(0, 5), (1, 6)] and "other seeds; 1 without partner" in words


def test_a_missing_run_does_not_shift_the_pairs():
    first = Condition(name="A", runs=(0, 1, 2, 3), seeds=("0", "1", "2", "3"))
    lacks = Condition(name="B", runs=(4, 5, 6), seeds=("3", "0", "2"))
    assert pair_runs(first, lacks) == (
        [(0, 5), (2, 6), (3, 4)],
        "paired by seed; 1 without partner",
    )
    later = Condition(name="C", runs=(4, 5, 6, 7), seeds=("2", "3", "4", "5"))
    assert pair_runs(first, later) == (
        [(2, 4), (3, 5), (0, 6), (1, 7)],
        "2 paired by seed, 2 in the order of their seeds",
    )


def test_unknown_seeds_are_not_the_same_and_large_ones_differ():
    tree = runs(seed=[1, np.nan, np.nan, 1, 123456781, 123456782])
    one, other, large = conditions_by_label(tree, ["A", "A", "B", "B", "C", "C"])
    assert pair_runs(one, other)[1] == "1 paired by seed, 1 in the order of their seeds"
    assert (one.seeds, large.seeds) == (("1", ""), ("123456781", "123456782"))


def scheduled(tmp_path, **schedules):
    """Write runs whose learning rates follow the given lists, with equal first values."""
    paths = []
    for name, lr in schedules.items():
        steps = np.arange(1, len(lr) + 1)
        with RecordingWriter(tmp_path / f"{name}.h5", attrs={"seed": len(paths)}) as writer:
            rows = {"step": steps, "loss": np.ones(len(lr)), "lr": np.array(lr)[:, None]}
            writer.append("training", rows)
        paths.append(tmp_path / f"{name}.h5")
    return open_runs(paths, steps="union")


def test_a_learning_rate_is_told_by_its_schedule(tmp_path):
    """First value, peak and last; a run that ended early does not differ from its replicates."""
    tree = scheduled(
        tmp_path, a=[0, 0.1, 0.05, 0.01], b=[0, 0.1, 0.05], c=[0, 0.2, 0.1, 0.02], d=[0.1] * 4
    )
    assert [(c.name, len(c.runs)) for c in conditions_by_setting(tree)] == [
        ("lr = 0 → 0.1 → 0.05", 2),
        ("lr = 0 → 0.2 → 0.1", 1),
        ("lr = 0.1", 1),
    ]


def test_a_long_name_says_how_much_more_differs():
    halves = ([0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1])
    settings = {f"s{i}": values for i, values in enumerate((*halves, [0, 1, 1, 0]))}
    names = [c.name for c in conditions_by_setting(runs(**settings))]
    assert len(set(names)) == 4
    assert all(n.count(" = ") == 6 and n.endswith(", 1 more differ") for n in names)

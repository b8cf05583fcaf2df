"""A study can be continued from its tables, without the recordings that they were measured in."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analyses.study.ledger import can_join, join, name_of, read_ledger, write_ledger
from analyses.study.scheduler import Queue
from analyses.study.study import plan_sweeps
from gradscope.experiments.sweep.grid import Finished
from tests.analyses.study.tiny_study import write_specs


def test_runs_come_back_as_they_were_written(tmp_path):
    outcomes = {
        "b": {Path("x/b/run2.h5"): Finished("diverged", {})},
        "a": {Path("x/a/run1.h5"): Finished("finished", {"val_accuracy": 0.1 + 0.2})},
    }
    write_ledger(outcomes, tmp_path, "mini")
    assert read_ledger(tmp_path, "mini") == {
        "a/run1": Finished("finished", {"val_accuracy": 0.1 + 0.2}),
        "b/run2": Finished("diverged", {}),
    }
    assert read_ledger(tmp_path, "full") == {}


def test_known_runs_are_not_planned_again(tmp_path):
    sweeps = plan_sweeps(
        ["tiny"], "smoke", tmp_path / "runs", folder=write_specs(tmp_path / "specs")
    )
    first, *others = Queue(sweeps).todo()
    ended = Finished("finished", {})
    queue = Queue(sweeps, {name_of(first.path): ended, "other/run": ended})
    assert [run.path for run in queue.todo()] == [run.path for run in others]
    assert queue.n_ended == 1


def test_known_runs_of_more_seeds_than_are_planned_stay(tmp_path):
    specs = write_specs(tmp_path / "specs")
    more, fewer = (
        plan_sweeps(["tiny"], "smoke", tmp_path / "runs", seeds=range(n), folder=specs)
        for n in (3, 1)
    )
    planned = Queue(more).todo()
    known = {name_of(run.path): Finished("finished", {}) for run in planned}
    assert Queue(fewer, known).outcomes == {
        "tiny-smoke": {run.path: Finished("finished", {}) for run in planned}
    }
    # At a planned seed, a run that is not planned was one of another spec; so were trials.
    others = ["tiny-smoke/old-s0-0f", "tiny-smoke/tune-alpha0-s7-0f", "other-smoke/alpha0-s2-0f"]
    queue = Queue(fewer, dict.fromkeys(others, Finished("finished", {})))
    assert queue.outcomes == {"tiny-smoke": {}} and len(queue.todo()) == 4


def test_later_seeds_in_another_precision_join_the_known(tmp_path):
    specs = write_specs(tmp_path / "specs")
    (first,) = plan_sweeps(["tiny"], "smoke", tmp_path / "runs", folder=specs)
    (later,) = plan_sweeps(
        ["tiny"], "smoke", tmp_path / "runs", seeds=range(2, 4), folder=specs, amp="bf16"
    )
    assert (first.seeds, later.seeds) == ((0, 1), (2, 3))
    known = {name_of(run.path): Finished("finished", {}) for run in first.plan({})}
    queue = Queue([later], known)
    assert len(queue.outcomes["tiny-smoke"]) == 8
    assert [(run.config.seed, run.config.amp) for run in queue.todo()] == [(2, "bf16")] * 4 + [
        (3, "bf16")
    ] * 4


def test_rows_of_kept_runs_join_new_ones():
    old = {"t": pd.DataFrame({"run": ["a", "b", "c"], "x": [1.0, 2.0, 3.0]})}
    new = {"t": pd.DataFrame({"run": ["b", "d"], "x": [20.0, 40.0]})}
    joined = join(old, new, {"a"})
    assert joined["t"].to_numpy().tolist() == [["a", 1.0], ["b", 20.0], ["d", 40.0]]
    assert can_join(old) and not can_join({"t": pd.DataFrame({"x": [1.0]})})

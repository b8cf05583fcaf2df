"""A study can be continued from its tables, and no call takes from them what it did not replace."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analyses.all import load_questions
from analyses.study.ledger import join, known_runs, read_ledger, write_ledger
from analyses.study.results import folder_of, has_results, read_measured, write_measured
from analyses.study.run_records import name_of
from analyses.study.scheduler import Queue
from analyses.study.study import forget, measure_all, plan_sweeps
from gradscope.errors import UsageError
from gradscope.experiments.sweep.engine import Report
from gradscope.experiments.sweep.grid import Finished
from tests.analyses.study.tiny_study import QUESTION, SPEC, write_specs
from tests.helpers import write_recording

ENDED = Finished("finished", {})


def plan(folder, seeds, **options):
    text = options.pop("text", SPEC)
    specs = write_specs(folder / "specs", text)
    return plan_sweeps(["tiny"], "smoke", folder / "runs", seeds=seeds, folder=specs, **options)


def call(folder, seeds, *, is_afresh=False, n_failed=0, **options):
    """Do what a call of the study does, with made-up recordings for the runs that it trains."""
    results = folder / "results"
    known = {} if is_afresh else known_runs([QUESTION], results, "smoke", ["tiny"])
    queue = Queue(plan(folder, seeds, **options), known)
    while run := queue.start():
        status = "failed" if n_failed > 0 else "finished"
        n_failed -= 1
        if status == "finished":
            run.path.parent.mkdir(parents=True, exist_ok=True)
            config = run.config.resolved()
            write_recording(run.path, 3, 2, seed=config.seed, config_json=config.to_json())
        queue.end(Report(run.path.absolute(), status))
    queue.write_indices()
    measure_all([QUESTION], queue.outcomes, "smoke", results, known=queue.kept())
    return queue


def held(folder):
    """Seeds of the rows, and how many runs the ledger names."""
    table = read_measured(folder_of(folder / "results", "tiny", "smoke"))["falls"]
    assert table["run"].is_unique
    return table["seed"].value_counts().to_dict(), len(read_ledger(folder / "results", "smoke"))


def test_runs_come_back_as_they_were_written(tmp_path):
    ended = {
        "b/run2": Finished("diverged", {}),
        "a/run1": Finished("finished", {"val_accuracy": 0.1 + 0.2}),
    }
    write_ledger(ended | {"a/run3": Finished("failed", {})}, tmp_path, "mini")
    assert read_ledger(tmp_path, "mini") == ended
    assert read_ledger(tmp_path, "full") == {}


def test_known_runs_are_not_planned_again(tmp_path):
    first, *others = Queue(plan(tmp_path, None)).todo()
    queue = Queue(plan(tmp_path, None), {name_of(first.path): ENDED, "other/run": ENDED})
    assert [run.path for run in queue.todo()] == [run.path for run in others]
    assert queue.n_ended == 1


def test_later_seeds_join_those_whose_recordings_are_gone(tmp_path):
    call(tmp_path, range(2))
    shutil.rmtree(tmp_path / "runs")
    call(tmp_path, range(2, 3), amp="bf16")  # elsewhere, in another precision
    assert held(tmp_path) == ({0: 4, 1: 4, 2: 4}, 12)
    assert len(call(tmp_path, range(1, 3), is_afresh=True, amp="bf16").outcomes["tiny-smoke"]) == 8
    assert held(tmp_path) == ({1: 4, 2: 4}, 8)


def test_where_nothing_ended_tables_stay_and_only_those_named_are_forgotten(tmp_path):
    other = dataclasses.replace(QUESTION, name="other", specs=("other",))
    folders = [folder_of(tmp_path / "results", name, "smoke") for name in ("tiny", "other")]
    for folder in folders:
        write_measured({"falls": pd.DataFrame({"run": ["old"]})}, folder)
    queue = Queue(plan(tmp_path, range(1)))
    assert measure_all([QUESTION, other], queue.outcomes, "smoke", tmp_path / "results") == []
    forget([other], "smoke", tmp_path / "results")
    assert [has_results(folder) for folder in folders] == [True, False]


def test_recordings_of_seeds_that_are_not_planned_stay_in_the_tables(tmp_path):
    call(tmp_path, range(1))
    call(tmp_path, range(1, 2), is_afresh=True)
    assert held(tmp_path) == ({0: 4, 1: 4}, 8)


@pytest.mark.parametrize(
    "change", [{"amp": "bf16"}, {"text": SPEC.replace("units = 8", "units = 16")}]
)
def test_another_configuration_of_a_seed_in_the_tables_is_refused(tmp_path, change):
    call(tmp_path, range(2))
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(UsageError, match=r"hold tiny-smoke/.*is not the planned one of its seed"):
        call(tmp_path, range(1, 3), **change)
    assert held(tmp_path) == ({0: 4, 1: 4}, 8)


def test_recordings_of_a_seed_that_the_tables_hold_are_left_to_a_call_of_that_seed(tmp_path):
    call(tmp_path, range(1))
    shutil.rmtree(tmp_path / "runs")
    other = tmp_path / "other"
    call(other, range(1), amp="bf16")
    shutil.copytree(other / "runs", tmp_path / "runs")
    call(tmp_path, range(1, 2), amp="bf16")
    assert held(tmp_path) == ({0: 4, 1: 4}, 8)


def test_a_run_whose_row_was_lost_is_run_again(tmp_path):
    call(tmp_path, range(1))
    shutil.rmtree(tmp_path / "runs")
    path = folder_of(tmp_path / "results", "tiny", "smoke") / "falls.csv"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)
    known = known_runs([QUESTION], tmp_path / "results", "smoke", ["tiny"])
    assert len(known) == 3 and len(Queue(plan(tmp_path, range(1)), known).todo()) == 1
    call(tmp_path, range(1))
    assert held(tmp_path) == ({0: 4}, 4)


@pytest.mark.parametrize("n_lines", [0, 4])
def test_rows_that_the_ledger_does_not_name_stay(tmp_path, n_lines):
    call(tmp_path, range(2))
    shutil.rmtree(tmp_path / "runs")
    ledger = tmp_path / "results/runs-smoke.json"
    rows = json.loads(ledger.read_text())
    ledger.write_text(json.dumps(dict(list(rows.items())[:n_lines])))
    call(tmp_path, range(2, 3))
    assert held(tmp_path) == ({0: 4, 1: 4, 2: 4}, 12)


def test_a_trial_that_the_ledger_does_not_name_has_no_score(tmp_path):
    folder = folder_of(tmp_path, "tiny", "smoke")
    names = ["tiny-smoke/tune-a-s9-0f", "tiny-smoke/a-s0-0f", ""]
    write_measured({"falls": pd.DataFrame({"run": names})}, folder)
    known = known_runs([QUESTION], tmp_path, "smoke", ["tiny"])
    assert known == {"tiny-smoke/a-s0-0f": ENDED}


def test_a_damaged_recording_leaves_its_row(tmp_path):
    call(tmp_path, range(1))
    path = next((tmp_path / "runs/tiny-smoke").glob("*.h5"))
    path.write_bytes(path.read_bytes()[:1000])
    call(tmp_path, range(2))
    assert held(tmp_path) == ({0: 4, 1: 4}, 8)


def test_a_failed_run_is_no_end(tmp_path):
    call(tmp_path, range(1), n_failed=1)
    assert held(tmp_path) == ({0: 3}, 3)
    call(tmp_path, range(1))
    assert held(tmp_path) == ({0: 4}, 4)


def test_tables_that_nothing_can_join_are_refused(tmp_path):
    call(tmp_path, range(1))
    ledger, folder = tmp_path / "results/runs-smoke.json", tmp_path / "results/tiny/smoke"
    whole = ledger.read_text()
    ledger.write_text(whole[:40])
    with pytest.raises(UsageError, match=r"runs-smoke\.json is damaged: .*--afresh replaces"):
        call(tmp_path, range(1, 2))
    ledger.write_text(json.dumps(["a"]))
    with pytest.raises(UsageError, match=r"runs-smoke\.json is damaged: "):
        call(tmp_path, range(1, 2))
    ledger.write_text(whole)
    write_measured({"falls": read_measured(folder)["falls"].drop(columns="run")}, folder)
    with pytest.raises(UsageError, match=r"rows of .* do not name their runs: none can join"):
        call(tmp_path, range(1, 2))
    assert known_runs([QUESTION], tmp_path / "results", "smoke", ["of another question"]) == {}
    call(tmp_path, range(1, 2), is_afresh=True)
    assert held(tmp_path) == ({0: 4, 1: 4}, 8)  # both seeds have recordings here


def test_rows_of_kept_runs_join_new_ones():
    old = {"t": pd.DataFrame({"run": ["a", "b", "c"], "x": [1.0, 2.0, 3.0]})}
    new = {"t": pd.DataFrame({"run": ["b", "d"], "x": [20.0, 40.0]})}
    joined = join(old, new, {"a"})
    assert joined["t"].to_numpy().tolist() == [["a", 1.0], ["b", 20.0], ["d", 40.0]]


def test_the_committed_ledger_is_of_the_committed_tables():
    results = Path(__file__).parents[3] / "data/results"
    for path in results.glob("runs-*.json"):
        scale = path.stem.removeprefix("runs-")
        known = known_runs(load_questions(), results, scale, [])
        assert known == read_ledger(results, scale)


def test_a_damaged_table_is_named(tmp_path):
    call(tmp_path, range(1))
    path = folder_of(tmp_path / "results", "tiny", "smoke") / "falls.csv"
    for content in ("", None):
        path.write_text(content) if content is not None else path.unlink()
        with pytest.raises(UsageError, match=r"falls\.csv is missing or damaged: "):
            call(tmp_path, range(1, 2))

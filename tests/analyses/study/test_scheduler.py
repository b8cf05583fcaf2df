"""What runs next, within which time; no run is trained here."""

import contextlib
from unittest.mock import MagicMock

import pytest

from analyses.study import scheduler
from analyses.study.run_records import name_of
from analyses.study.scheduler import Queue, TimeBudget
from analyses.study.study import plan_sweeps
from gradscope.experiments.sweep.engine import Report
from tests.analyses.study.tiny_study import SPEC, TUNED, write_specs


def queue_of(tmp_path, text=SPEC, **options):
    specs = write_specs(tmp_path / "specs", text)
    return Queue(plan_sweeps(["tiny"], "smoke", tmp_path / "runs", folder=specs, **options))


def finish(queue, run, **metrics):
    queue.end(Report(run.path.absolute(), "finished", metrics))


def test_all_cells_of_a_seed_come_before_the_next_seed(tmp_path):
    queue = queue_of(tmp_path)
    runs = [queue.start() for _ in range(8)]
    assert [run.config.seed for run in runs] == [0] * 4 + [1] * 4
    assert len({(run.config.alpha, run.config.lr) for run in runs[:4]}) == 4
    assert queue.start() is None
    assert {run.config.steps for run in runs} == {3}


def test_a_tuned_arm_goes_from_trials_to_fresh_seeds(tmp_path):
    queue = queue_of(tmp_path, TUNED)
    seeds, n_tried = [], 0
    while run := queue.start():
        seeds.append(run.config.seed)
        finish(queue, run, val_accuracy=0.5 + 0.01 * n_tried)
        n_tried += 1
    # Two cells, three trials each, then two seeds for each cell.
    assert seeds == [1_000_000] * 6 + [0, 0, 1, 1] or sorted(seeds[-4:]) == [0, 0, 1, 1]
    assert seeds.count(1_000_000) == 6
    assert queue.edges() == ["tiny-smoke"]


def test_a_cell_waits_for_a_trial_that_an_error_stopped(tmp_path):
    queue, n_run = queue_of(tmp_path, TUNED), 0
    while run := queue.start():
        n_run += 1
        if n_run == 1:
            queue.end(Report(run.path.absolute(), "failed", message="its worker was lost"))
        else:
            finish(queue, run, val_accuracy=0.5)
    alphas = [path.name for path in queue.outcomes["tiny-smoke"] if "tune-" not in path.name]
    assert len(alphas) == 2 and not queue.todo()  # the other cell's two seeds
    assert sorted(end.status for end in queue.outcomes["tiny-smoke"].values())[0] == "failed"


def tune(queue, scores):
    """Run a tuned queue to its end; a trial's score by its learning rate."""
    while run := queue.start():
        finish(queue, run, val_accuracy=scores(run.config.lr))
    return queue


def test_a_tuned_arm_with_more_trials_keeps_its_runs_until_it_has_another_choice(tmp_path):
    first = tune(queue_of(tmp_path, TUNED), lambda lr: 0.5 + lr)
    known = {name_of(path): end for path, end in first.outcomes["tiny-smoke"].items()}
    specs = write_specs(tmp_path / "specs", TUNED.replace("trials = 3", "trials = 9"))
    sweeps = plan_sweeps(["tiny"], "smoke", tmp_path / "runs", folder=specs)
    queue = Queue(sweeps, known)
    assert {run.path.name.split("-")[0] for run in queue.todo()} == {"tune"}
    assert queue.kept() == known
    tune(queue, lambda lr: 0.5 + lr)
    new = {name_of(path) for path in queue.outcomes["tiny-smoke"]}
    finals = {name for name in known if "/tune-" not in name}
    assert finals and not finals & new
    assert queue.kept() == {name: end for name, end in known.items() if name not in finals}


def test_a_tuned_arm_that_waits_for_a_trial_keeps_its_runs(tmp_path):
    first = tune(queue_of(tmp_path, TUNED), lambda lr: 0.5)
    known = {name_of(path): end for path, end in first.outcomes["tiny-smoke"].items()}
    lost = next(name for name in known if "/tune-" in name)
    queue = Queue(first.sweeps, {name: end for name, end in known.items() if name != lost})
    run = queue.start()
    assert name_of(run.path) == lost
    queue.end(Report(run.path.absolute(), "failed", message="its worker was lost"))
    assert queue.waiting(first.sweeps[0]) == [run.path]
    assert set(queue.kept()) == {*known} - {lost}


def test_trials_in_flight_are_not_started_twice(tmp_path):
    queue = queue_of(tmp_path, TUNED)
    started = [queue.start() for _ in range(3)]
    finish(queue, started[0], val_accuracy=0.5)
    rest = []
    while run := queue.start():
        rest.append(run)
    paths = [run.path for run in started + rest]
    assert len(paths) == len(set(paths)) == 6


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_runs_start_only_if_they_end_in_time(tmp_path):
    clock, queue = Clock(), queue_of(tmp_path)
    budget = TimeBudget(1.0, lambda config: 20.0, clock)
    n_started = 0
    while run := queue.start(budget.allows):
        # Each takes 25 s, longer than was predicted: 0–25, 25–50, and 50 + 25 is too late.
        clock.now += 25.0
        budget.learn(run.config, 25.0)
        finish(queue, run)
        n_started += 1
    assert n_started == 2
    assert clock.now == 50.0
    assert len(queue.todo()) == 6


def test_the_longest_run_of_a_kind_is_expected_again(tmp_path):
    clock = Clock()
    budget = TimeBudget(1.0, lambda config: 100.0, clock)
    config = queue_of(tmp_path).todo()[0].config
    assert not budget.allows(config)
    budget.learn(config, 50.0)
    budget.learn(config.replace(seed=7, alpha=0.3, lr=1.0), 40.0)
    assert budget.allows(config)
    clock.now = 11.0
    assert not budget.allows(config)
    assert TimeBudget(None, lambda config: 1e9, clock).allows(config)


def test_runs_that_ended_early_do_not_tell_how_long_one_takes(tmp_path, monkeypatch):
    ends = {"diverged": 4.0, "failed": 0.0, "finished": 50.0}

    def run_as_told(client, next_run, n_at_once):
        for status, seconds in ends.items():
            yield Report(next_run().path.absolute(), status, seconds=seconds)

    learned = []
    budget = TimeBudget(None, lambda config: 0.0)
    monkeypatch.setattr(budget, "learn", lambda config, seconds: learned.append(seconds))
    monkeypatch.setattr(scheduler, "connect", lambda *a, **k: contextlib.nullcontext(MagicMock()))
    monkeypatch.setattr(scheduler, "run_as_told", run_as_told)
    failed = scheduler.run_queue(queue_of(tmp_path), budget, n_workers=1)
    assert learned == [50.0] and [report.status for report in failed] == ["failed"]


def test_a_sweep_that_does_not_fit_leaves_its_turn_to_the_next(tmp_path):
    specs = write_specs(tmp_path / "specs")
    (specs / "long.toml").write_text(SPEC.replace("steps = 3", "steps = 500"))
    sweeps = plan_sweeps(["long", "tiny", "tiny"], "smoke", tmp_path / "runs", folder=specs)
    assert [sweep.name for sweep in sweeps] == ["long-smoke", "tiny-smoke"]
    budget = TimeBudget(1.0, lambda config: float(config.steps), Clock())
    run = Queue(sweeps).start(budget.allows)
    assert run.path.parent.name == "tiny-smoke"


def test_scales_that_a_spec_has_not_are_left_out(tmp_path):
    specs = write_specs(tmp_path / "specs")
    assert plan_sweeps(["tiny"], "short", tmp_path, folder=specs) == []
    (full,) = plan_sweeps(["tiny"], "full", tmp_path, folder=specs, seeds=range(5))
    assert (full.name, full.seeds) == ("tiny", (0, 1, 2, 3, 4))
    assert full.cells[0].steps == 9


def test_a_run_that_ended_is_not_planned_again(tmp_path):
    from tests.helpers import write_recording

    queue = queue_of(tmp_path)
    first = queue.todo()[0]
    first.path.parent.mkdir(parents=True)
    write_recording(first.path, n_steps=3, n_layers=2)
    queue.todo()[1].path.write_bytes(b"half a file")
    again = queue_of(tmp_path)
    assert again.n_ended == 1
    assert first.path not in {run.path for run in again.todo()}
    assert len(again.todo()) == 7


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_bad_end_is_an_end_too(tmp_path, status):
    queue = queue_of(tmp_path)
    run = queue.start()
    queue.end(Report(run.path.absolute(), status, message="why"))
    assert run.path not in {r.path for r in queue.todo()}
    queue.write_indices()
    assert f'"status": "{status}"' in (run.path.parent / "index.json").read_text()

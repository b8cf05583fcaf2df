import os
import signal
import time

import pytest

from gradscope.experiments.config import Config
from gradscope.experiments.sweep.engine import connect, run_all
from gradscope.experiments.sweep.grid import Run
from gradscope.experiments.sweep.state import read_outcome

TINY = Config(
    model="plain",
    units=8,
    depth=2,
    dataset="synthetic",
    n_classes=2,
    samples_per_class=20,
    batch_size=8,
    steps=3,
)


@pytest.mark.slow
def test_a_failing_run_ends_only_itself_on_a_local_cluster(tmp_path):
    runs = [
        Run(TINY.replace(model="vgg12"), tmp_path / "unknown.h5"),
        Run(TINY, tmp_path / "good.h5"),
        Run(TINY.replace(lr=1e6, steps=60), tmp_path / "wild.h5"),
    ]
    with connect(None, n_workers=1) as client:
        reports = {report.path.stem: report for report in run_all(client, runs)}
        kept = client.submit(os.environ.get, "MALLOC_TRIM_THRESHOLD_").result()
        patience = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.worker_ttl)
        (clocks,) = client.run(lambda dask_worker: set(dask_worker.periodic_callbacks)).values()
    assert int(kept) >= 2**30  # dask's default gives memory back at every step
    assert patience is None  # dask's gives up workers after a machine has slept for five minutes
    assert "heartbeat" in clocks
    assert "profile" not in clocks  # dask's looks at every thread a hundred times a second
    assert {name: report.status for name, report in reports.items()} == {
        "unknown": "failed",
        "good": "finished",
        "wild": "diverged",
    }
    assert "unknown model 'vgg12'" in reports["unknown"].message
    assert "test_accuracy" in reports["good"].metrics
    assert not (tmp_path / "unknown.h5").exists()


@pytest.mark.slow
def test_a_worker_that_dies_with_ended_runs_costs_none_of_them(tmp_path):
    runs = [Run(TINY.replace(seed=seed), tmp_path / f"{seed}.h5") for seed in range(4)]
    with connect(None, n_workers=2) as client:
        reports = run_all(client, runs)
        ended = [next(reports)]
        wait_until(lambda: all(read_outcome(run.path) for run in runs))
        written = {run.path: run.path.stat().st_mtime_ns for run in runs}
        # dask now holds the results of runs that nobody has asked for yet, and does them again.
        pid, *_ = client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        ended += reports
    assert sorted(report.path for report in ended) == [run.path for run in runs]
    assert {report.status for report in ended} == {"finished"}
    assert all("test_accuracy" in report.metrics for report in ended)
    assert {run.path: run.path.stat().st_mtime_ns for run in runs} == written


def wait_until(is_so, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"it did not come in {seconds} s"
        time.sleep(0.05)

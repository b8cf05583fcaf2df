import os

import pytest

from gradscope.experiments.config import Config
from gradscope.experiments.sweep.engine import connect, run_all
from gradscope.experiments.sweep.grid import Run

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

"""Runs of a sweep on a dask cluster: on this machine, or wherever a scheduler sends them."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradscope.errors import imports_of_extra
from gradscope.experiments.config import Config
from gradscope.experiments.sweep.grid import Run
from gradscope.experiments.sweep.state import read_outcome
from gradscope.experiments.sweep.workers import deaf_loop, leaving_at_once
from gradscope.experiments.training.loop import train

if TYPE_CHECKING:
    from distributed import Client, Future


_KEEP_MEMORY = {
    f"distributed.nanny.pre-spawn-environ.{name}": 2**30
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
}
"""Against dask's default, under which what a training step frees goes back to the system, to be
zeroed and mapped again at the next step: about a third of a small run's time on a CPU."""
_KEEP_WORKERS = {"distributed.scheduler.worker-ttl": None}
"""Against dask's default, under which workers that were silent for five minutes are given up for
good: a machine that slept, or a sweep that was stopped, would go on without any."""

_KEEP_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.scheduler.work-stealing-interval": "10s",
}
"""Against dask's default, under which a profiler, clocks and monitors, for a page that nobody
opens, take a tenth of a core for two workers."""


FETCH_SECONDS = 2
"""How long a report may take from its worker before those of others go first."""


@dataclass(frozen=True)
class Report:
    """How one run ended; ``status`` is ``failed`` where an error stopped it.

    ``seconds`` is what it took its worker, preparation and evaluation included; 0 where an earlier
    attempt had ended.
    """

    path: Path
    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0


@contextlib.contextmanager
def connect(scheduler: str | None, *, n_workers: int | None) -> Iterator[Client]:
    """Connect to a scheduler, or start a local cluster for the length of a ``with`` block.

    With a local cluster, Ctrl-C ends the process at once; see `workers.leaving_at_once`.

    Parameters
    ----------
    scheduler : str or None
        Address, such as ``tcp://host:8786``.
    n_workers : int or None
        Processes of the local cluster; by default one for each CUDA device, or for two CPU cores.

    Raises
    ------
    OSError
        If no scheduler answers.
    """
    with imports_of_extra("sweep"):
        import dask.config
        from distributed import Client, LocalCluster

    if scheduler is not None:
        with Client(scheduler, timeout="20s") as client:
            yield client
        return
    n_default = torch.cuda.device_count() or max(1, (os.cpu_count() or 1) // 2)
    with (
        leaving_at_once(),
        dask.config.set(_KEEP_MEMORY | _KEEP_WORKERS | _KEEP_QUIET),
        deaf_loop() as loop,
        LocalCluster(
            loop=loop,
            n_workers=n_workers or n_default,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            # Without one the scheduler's page still takes port 8787, which another sweep may hold.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            host="127.0.0.1",
            # What matters of a lost worker stands in its run's report.
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        with Client(cluster) as client:
            yield client


def run_all(client: Client, runs: Sequence[Run]) -> Iterator[Report]:
    """Run all, each in a worker's process, and yield their reports as they end.

    A worker that dies loses its run to another worker; an error ends only its own run.
    """
    pending = iter(runs)
    return run_as_told(client, lambda: next(pending, None), n_at_once=len(runs))


def run_as_told(
    client: Client, next_run: Callable[[], Run | None], *, n_at_once: int
) -> Iterator[Report]:
    """Run what a plan asks for one by one, and yield reports as runs end.

    Parameters
    ----------
    client : distributed.Client
    next_run : callable
        Asked at the start and after each report; None means nothing for now. When nothing runs and
        nothing is asked for, the end is reached.
    n_at_once : int
        Runs submitted at a time.
    """
    from distributed import as_completed

    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    futures: dict[Future[Any], Run] = {}
    ended = as_completed()

    def fill() -> None:
        while len(futures) < n_at_once and (run := next_run()) is not None:
            future = client.submit(
                run_one,
                run.config,
                run.path.absolute(),
                workers=workers,
                key=f"run-{run.path.parent.name}-{run.path.stem}",
                pure=False,
            )
            futures[future] = run
            ended.add(future)

    fill()
    for future in ended:
        try:
            error = future.exception(timeout=FETCH_SECONDS)
            report = future.result(timeout=FETCH_SECONDS) if error is None else None
        except TimeoutError:  # lost with its worker, and done again: it holds up no other
            ended.add(future)
            continue
        run = futures.pop(future)
        words = f"its worker was lost: {error}"
        yield Report(run.path, "failed", message=words) if report is None else report
        fill()


def run_one(config: Config, path: Path, workers: Sequence[str] = ()) -> Report:
    """Train one configuration in this process; errors become part of the report.

    Parameters
    ----------
    config : Config
    path : Path
        Where the recording goes. What an unfinished attempt left there is replaced; where one had
        ended, it stands: dask does a task again if its worker is lost before its report is fetched.
    workers : sequence of str
        Addresses of all workers: this one takes its share of the machine's cores and devices.
    """
    started = time.perf_counter()
    _take_share(workers)
    try:
        if ended := read_outcome(path):
            return Report(path, ended.status, dict(ended.metrics))
        path.parent.mkdir(parents=True, exist_ok=True)
        outcome = train(config, path, if_exists="overwrite")
    except Exception as error:
        return Report(path, "failed", message=f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - started
    return Report(path, outcome.status, outcome.metrics, seconds=seconds)


def _take_share(workers: Sequence[str]) -> None:
    """Share cores and CUDA devices among the workers of this host."""
    if not workers:
        return
    from distributed import get_worker

    mine = get_worker().address
    host = mine.rpartition(":")[0]
    here = [address for address in workers if address.rpartition(":")[0] == host]
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // max(len(here), 1)))
    if torch.cuda.is_available() and mine in here:
        torch.cuda.set_device(here.index(mine) % torch.cuda.device_count())

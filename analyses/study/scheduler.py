"""Which run comes next: sweeps in order of importance, seed by seed, as many as fit in the time.

Within a sweep all cells of one seed come before the next seed, so that whenever the time is up the
arms that are compared have the same seeds, but for the last. A run is started only if it is
expected to end in time, and one that was started is always waited for: there is no half a run.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from analyses.study.run_records import is_trial, name_of
from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.sweep.engine import Report, connect, run_as_told
from gradscope.experiments.sweep.grid import Finished, Run, Sweep
from gradscope.experiments.sweep.state import find_todo, format_seconds, read_outcome, write_index

SEED = re.compile(r"-s(\d+)-[0-9a-f]+$")
"""The seed, in the name of a run."""
REPORT_SECONDS = 5.0
"""Between two lines of progress; failures are told at once."""


class Queue:
    """What is planned, running and ended, over all sweeps.

    Parameters
    ----------
    sweeps : sequence of Sweep
        Most wanted first. Runs that have ended, by their recordings, are not run again.
    known : mapping of str to Finished, optional
        Runs that have ended although their recordings are not here, by name (see `ledger`).

    Raises
    ------
    UsageError
        If a known run is of a planned sweep and seed, but of another configuration.
    """

    def __init__(
        self, sweeps: Sequence[Sweep], known: Mapping[str, Finished] | None = None
    ) -> None:
        self._known = known or {}
        self.sweeps = list(sweeps)
        self.outcomes: dict[str, dict[Path, Finished]] = {sweep.name: {} for sweep in sweeps}
        self._todo = {sweep.name: self._find(sweep) for sweep in sweeps}
        self._refuse_strangers()
        self._sweep_of: dict[Path, Sweep] = {}
        self._changed: dict[str, Sweep] = {}

    def _find(self, sweep: Sweep) -> list[Run]:
        """Return what is planned and has not ended; recordings of other seeds have ended too."""
        missing = find_todo(self._wide(sweep), self.outcomes[sweep.name], self._read)
        return _seed_major(
            [run for run in missing if is_trial(run.path.stem) or run.config.seed in sweep.seeds]
        )

    def _wide(self, sweep: Sweep) -> Sweep:
        """Add the seeds of recordings that are here; those of the tables stay as they are there.

        Not so in a tuned arm: all its seeds have to be of one choice.
        """
        stems = [path.stem for path in sweep.folder.glob("*.h5")]
        here, known = (_seeds(names) for names in (stems, self._own(sweep)))
        more = here - known if sweep.tuning is None else here | known
        return dataclasses.replace(sweep, seeds=(*sweep.seeds, *sorted(more - {*sweep.seeds})))

    def _own(self, sweep: Sweep) -> list[str]:
        """Return the known runs of a sweep, without its name."""
        names = [name.rpartition("/") for name in self._known]
        return [stem for folder, _, stem in names if folder == sweep.name]

    def _refuse_strangers(self) -> None:
        """Rows of two configurations of one cell and seed would stand in the tables together."""
        for sweep in self.sweeps:
            planned = {path.stem for path in self.outcomes[sweep.name]}
            for stem in self._own(sweep) if sweep.tuning is None else ():
                if stem not in planned and _seeds([stem]) & {*sweep.seeds}:
                    raise UsageError(
                        f"the tables hold {sweep.name}/{stem}, whose configuration is not the "
                        "planned one of its seed; plan as before (--amp, the spec), or give other "
                        "--seeds, other --results or --afresh"
                    )

    def kept(self) -> dict[str, Finished]:
        """Return the known runs that still count.

        Runs of a tuned arm do so until it has another choice; while a trial is missing there is
        none.
        """
        gone: set[str] = set()
        for sweep in self.sweeps:
            if sweep.tuning is None:
                continue
            outcomes = self.outcomes[sweep.name]
            missing = find_todo(self._wide(sweep), outcomes, self._read)
            if not self.waiting(sweep) and not any(is_trial(run.path.stem) for run in missing):
                planned = {path.stem for path in outcomes}
                gone |= {f"{sweep.name}/{stem}" for stem in self._own(sweep) if stem not in planned}
        return {name: end for name, end in self._known.items() if name not in gone}

    def waiting(self, sweep: Sweep) -> list[Path]:
        """Return the trials that an error stopped, which tuning waits for."""
        ends = self.outcomes[sweep.name].items()
        return [path for path, end in ends if is_trial(path.stem) and end.status == "failed"]

    def _read(self, path: Path) -> Finished | None:
        return read_outcome(path) or self._known.get(name_of(path))

    @property
    def n_ended(self) -> int:
        """Runs that have ended, before and in this session."""
        return sum(len(outcomes) for outcomes in self.outcomes.values())

    def todo(self) -> list[Run]:
        """Return the runs that are known by now and neither ended nor running, in their order."""
        return [run for sweep in self.sweeps for run in self._todo[sweep.name]]

    def start(self, fits: Callable[[Config], bool] = lambda config: True) -> Run | None:
        """Take the next run; None if there is none that fits until others have ended.

        A sweep whose next run does not fit leaves its turn to the next sweep: never to another of
        its own runs, which would give one arm a seed that another has not.
        """
        for sweep in self.sweeps:
            waiting = self._todo[sweep.name]
            if waiting and fits(waiting[0].config):
                run = waiting.pop(0)
                self._sweep_of[run.path.absolute()] = sweep
                return run
        return None

    def end(self, report: Report) -> None:
        """Take note of a run's end, and of the runs that a tuned arm plans next."""
        sweep = self._sweep_of.pop(report.path.absolute())
        outcomes = self.outcomes[sweep.name]
        path = sweep.folder / report.path.name
        outcomes[path] = Finished(report.status, report.metrics)
        self._changed[sweep.name] = sweep
        if sweep.tuning is not None:
            running = {path.name for path, own in self._sweep_of.items() if own is sweep}
            fresh = [
                run
                for run in find_todo(sweep, outcomes, self._read)
                if run.path.name not in running
            ]
            self._todo[sweep.name] = _seed_major(fresh)

    def write_indices(self) -> None:
        """Write the index of each sweep that changed since the last call."""
        for sweep in self._changed.values():
            write_index(sweep, self.outcomes[sweep.name])
        self._changed.clear()

    def edges(self) -> list[str]:
        """Return the sweeps in which tuning ended at the edge of what was tried."""
        return [s.name for s in self.sweeps if s.cells_at_edge(self.outcomes[s.name])]


class TimeBudget:
    """The time that is left for runs.

    Parameters
    ----------
    minutes : float or None
        None is without end.
    estimate : callable
        Seconds that a run of a configuration will take; asked once for each kind of run.
    clock : callable, default time.monotonic
    """

    def __init__(
        self,
        minutes: float | None,
        estimate: Callable[[Config], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.end = math.inf if minutes is None else clock() + 60 * minutes
        self._estimate = estimate
        self._estimated: dict[Config, float] = {}
        self._measured: dict[Config, float] = {}

    def allows(self, config: Config) -> bool:
        """Whether a run of this configuration is expected to end in time."""
        if math.isinf(self.end):
            return True
        kind = kind_of(config)
        if kind not in self._measured and kind not in self._estimated:
            self._estimated[kind] = self._estimate(config)
        seconds = self._measured.get(kind, self._estimated.get(kind, 0.0))
        return self.clock() + seconds <= self.end

    def learn(self, config: Config, seconds: float) -> None:
        """Remember the longest that a run of this kind took, in place of what was predicted."""
        kind = kind_of(config)
        self._measured[kind] = max(seconds, self._measured.get(kind, 0.0))


def kind_of(config: Config) -> Config:
    """Return the configuration without what does not change how long a run takes."""
    return config.resolved().replace(
        seed=0, data_seed=0, alpha=0.0, lr=0.1, weight_decay=0.0, gain=1.0, label_noise=0.0
    )


def estimated_seconds(config: Config) -> float:
    """Estimate the length of a run on a few of its steps."""
    from gradscope.experiments.sweep.estimate import estimate_cost
    from gradscope.experiments.training.environment import numerics
    from gradscope.experiments.training.setup import build_experiment

    with numerics(seed=config.seed, deterministic=config.deterministic):
        cost = estimate_cost(build_experiment(config.resolved()))
    return cost.seconds + cost.training_seconds


def run_queue(
    queue: Queue, budget: TimeBudget, *, n_workers: int, scheduler: str | None = None
) -> list[Report]:
    """Run what fits in the budget; returns the runs that failed."""
    failed: list[Report] = []
    configs = {}
    progress = _Progress(queue, budget.clock)

    def next_run() -> Run | None:
        run = queue.start(budget.allows)
        if run is not None:
            configs[run.path.absolute()] = run.config
        return run

    if not queue.todo():
        return []
    try:
        with connect(scheduler, n_workers=n_workers) as client:
            n_at_once = len(client.scheduler_info(n_workers=-1)["workers"])
            for report in run_as_told(client, next_run, n_at_once=n_at_once):
                if report.status == "finished" and report.seconds:  # others may have ended early
                    budget.learn(configs[report.path.absolute()], report.seconds)
                queue.end(report)
                failed += [report] if report.status == "failed" else []
                progress.tell(report)
    finally:
        queue.write_indices()
    return failed


def _seeds(stems: Iterable[str]) -> set[int]:
    """Return the seeds of runs by their names; trials, whose seed is that of tuning, have none."""
    found = [SEED.search(stem) for stem in stems if not is_trial(stem)]
    return {int(match[1]) for match in found if match}


def _seed_major(runs: Sequence[Run]) -> list[Run]:
    """Trials of a tuned arm first, then all cells seed by seed."""
    return sorted(runs, key=lambda run: (not is_trial(run.path.stem), run.config.seed))


class _Progress:
    """Tells now and then how far the study is."""

    def __init__(self, queue: Queue, clock: Callable[[], float]) -> None:
        self._queue, self._clock = queue, clock
        self._started = self._told = clock()
        self._before = queue.n_ended

    def tell(self, report: Report) -> None:
        now = self._clock()
        if report.status == "failed":
            print(f"failed: {report.path.name}: {report.message}", file=sys.stderr, flush=True)
        if now - self._told < REPORT_SECONDS:
            return
        self._told = now
        self._queue.write_indices()
        n_left = len(self._queue.todo())
        rate = (now - self._started) / (self._queue.n_ended - self._before)
        where = f"{report.path.parent.name}/{report.path.stem}: {report.status}"
        print(f"{where}; {n_left} to do, {format_seconds(rate * n_left)} left", flush=True)

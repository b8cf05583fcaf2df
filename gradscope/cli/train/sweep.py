"""Run a sweep from a TOML file: every cell of a grid with every seed, or a tuned arm.

An interrupted sweep continues where it stopped: runs whose recording is finished or diverged are
skipped. A failed run does not stop the others.
"""

from __future__ import annotations

import argparse
import functools
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.cli.output import add_json, format_bytes, print_json, probe
from gradscope.cli.recordings import as_path
from gradscope.errors import UsageError
from gradscope.experiments.config import to_flags
from gradscope.experiments.sweep.grid import Finished, Run, Sweep, read_sweep
from gradscope.experiments.sweep.state import find_todo, format_seconds, write_index

if TYPE_CHECKING:
    from gradscope.experiments.sweep.engine import Report

SUMMARY = "run many experiments from one file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("spec", metavar="SPEC.toml", help="specification of the sweep")
    parser.add_argument("--scale", metavar="NAME", help="apply the settings of [scale.NAME]")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the runs and their estimated cost"
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--print", action="store_true", dest="is_printed", help="print one shell command per run"
    )
    add_json(forms)
    parser.add_argument("--scheduler", metavar="ADDRESS", help="use the dask scheduler at ADDRESS")
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="local processes (default: one per two cores, or per GPU)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Plan, then show, print or run; exit code 1 where a run failed."""
    if arguments.workers is not None and arguments.workers < 1:
        raise UsageError(f"--workers must be at least 1; got {arguments.workers}")
    if arguments.scheduler is not None and not re.fullmatch(
        r"(\w+://)?\S+:\d{1,5}", arguments.scheduler
    ):
        raise UsageError(f"--scheduler takes tcp://HOST:PORT; got {arguments.scheduler!r}")
    sweep = read_sweep(as_path(arguments.spec, "a .toml file"), scale=arguments.scale)
    outcomes: dict[Path, Finished] = {}
    todo = find_todo(sweep, outcomes)
    if arguments.is_printed:
        print("".join(f"{shell_line(run)}\n" for run in todo), end="")
        return 0
    say = functools.partial(print, file=sys.stderr if arguments.json else sys.stdout, flush=True)
    say(describe(sweep, todo, outcomes))
    if arguments.dry_run:
        show_plan(sweep, todo, is_json=arguments.json)
        return 0
    probe(sweep.folder / "index.json", "`out`")
    failed = run_rounds(sweep, outcomes, arguments, say)
    write_index(sweep, outcomes)
    say(f"done: {len(outcomes) - len(failed)} runs in {sweep.folder}, {len(failed)} failed")
    edges = explain_edges(sweep, outcomes)
    for words in edges:
        say(words)
    for report in failed:
        print(f"failed: {report.path.name}: {report.message}", file=sys.stderr)
    if arguments.json:
        print_json(as_json(sweep, outcomes, failed) | {"edges": edges})
    return 1 if failed else 0


def show_plan(sweep: Sweep, todo: Sequence[Run], *, is_json: bool) -> None:
    """Print the runs to do and what they will cost."""
    n_bytes, seconds = estimate(todo)
    paths = [str(planned.path) for planned in todo]
    if is_json:
        plan = {"name": sweep.name, "folder": str(sweep.folder), "todo": paths}
        print_json(plan | {"n_bytes": n_bytes, "seconds": seconds})
        return
    print("".join(f"  {path}\n" for path in paths), end="")
    print(f"about {format_bytes(n_bytes)} and {format_seconds(seconds)} on one worker")


def as_json(
    sweep: Sweep, outcomes: Mapping[Path, Finished], failed: Sequence[Report]
) -> dict[str, Any]:
    """Return how every run of a sweep ended."""
    messages = {report.path: report.message for report in failed}
    runs = [
        {
            "recording": str(run.path),
            "status": outcomes[run.path].status,
            "last": dict(outcomes[run.path].metrics),
            "problem": messages.get(run.path.absolute(), ""),
        }
        for run in sweep.plan(outcomes)
        if run.path in outcomes
    ]
    n_failed = len(failed)
    return {"name": sweep.name, "folder": str(sweep.folder), "n_failed": n_failed, "runs": runs}


def describe(sweep: Sweep, todo: Sequence[Run], outcomes: Mapping[Path, Finished]) -> str:
    """Return the plan in a few lines."""
    plan = sweep.plan(outcomes)
    kinds = f"{len(sweep.cells)} cells x {len(sweep.seeds)} seeds, arm {sweep.arm}"
    lines = [f"{sweep.name}: {kinds}, in {sweep.folder}"]
    if sweep.tuning is not None:
        lines.append(f"each cell is tuned first, in up to {sweep.tuning.trials} trials")
    lines.append(f"{len(plan)} runs planned, {len(plan) - len(todo)} done, {len(todo)} to do")
    return "\n".join(lines)


def estimate(todo: Sequence[Run]) -> tuple[float, float]:
    """Return the bytes and seconds of the runs to do, measured on a few steps of each kind."""
    from gradscope.experiments.sweep.estimate import Cost, estimate_cost
    from gradscope.experiments.training.environment import numerics
    from gradscope.experiments.training.setup import build_experiment

    costs: dict[tuple[object, ...], Cost] = {}
    n_bytes, seconds = 0, 0.0
    for planned in todo:
        config = planned.config.resolved()
        kind = (
            config.model,
            config.width,
            config.depth,
            config.units,
            config.dataset,
            config.batch_size,
            config.epochs,
            config.steps,
            config.samples_per_class,
            config.limit_train,
            config.every,
        )
        if kind not in costs:
            with numerics(seed=config.seed, deterministic=config.deterministic):
                costs[kind] = estimate_cost(build_experiment(config))
        n_bytes += costs[kind].bytes
        seconds += costs[kind].seconds + costs[kind].training_seconds
    return n_bytes, seconds


def run_rounds(
    sweep: Sweep,
    outcomes: dict[Path, Finished],
    arguments: argparse.Namespace,
    say: Callable[[str], object],
) -> list[Report]:
    """Run until nothing is left to do; returns the runs that failed."""
    from gradscope.experiments.sweep.engine import connect, run_all

    todo, failed = find_todo(sweep, outcomes), []
    if not todo:
        return []
    started, n_before = time.monotonic(), len(outcomes)
    with connect(arguments.scheduler, n_workers=arguments.workers) as client:
        while todo:
            planned = {run.path.absolute(): run for run in todo}
            for report in run_all(client, todo):
                own = planned[report.path.absolute()]
                outcomes[own.path] = Finished(report.status, report.metrics)
                failed += [report] if report.status == "failed" else []
                rate = (time.monotonic() - started) / (len(outcomes) - n_before)
                n_left = len(sweep.plan(outcomes)) - len(outcomes)
                say(progress_line(own, report, n_left, rate * n_left))
                write_index(sweep, outcomes)
            todo = find_todo(sweep, outcomes)
    return failed


def explain_edges(sweep: Sweep, outcomes: Mapping[Path, Finished]) -> list[str]:
    """Say for which cells tuning ended at the edge of what was tried."""
    edges = []
    for cell in sweep.cells_at_edge(outcomes):
        name = ", ".join(f"{key} {getattr(cell, key)}" for key in sweep.varied) or "the cell"
        edges.append(f"{name}: the best trial is at the edge of what was tried; raise `trials`")
    return edges


def progress_line(planned: Run, report: Report, n_left: int, seconds: float) -> str:
    """Say how one run ended and what is left."""
    accuracy = report.metrics.get("test_accuracy")
    words = report.status if accuracy is None else f"{report.status}, test accuracy {accuracy:.1%}"
    return f"{planned.path.stem}: {words}; {n_left} to do, {format_seconds(seconds)} left"


def shell_line(planned: Run) -> str:
    """Return the command that does one run, for a job array."""
    words = ["gradscope", "record", *to_flags(planned.config), f"--out={planned.path}"]
    return shlex.join([*words, "--overwrite"])

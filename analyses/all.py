"""The whole study, from runs to verdicts and figures: ``python -m analyses.all --scale cpu``.

Runs every spec of every question (the map of alpha by learning rate first, unless ``--first`` names
others) and continues where it was stopped; with ``--minutes`` it does as many whole runs as fit and
later calls add to them, also where only the tables of earlier runs are there (``--afresh`` leaves
those out and replaces them). Then each question measures its runs and answers from the tables
alone, the five claims are judged together, and the figures are drawn. ``--from-results`` starts
from the committed tables.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from analyses.claims.claim import SCALES
from analyses.claims.verdict import check_design
from analyses.study.command import RESULTS, guarded
from analyses.study.ledger import known_runs
from analyses.study.question import Question
from analyses.study.scheduler import Queue, TimeBudget, estimated_seconds, kind_of, run_queue
from analyses.study.study import SPECS, conclude, forget, measure_all, plan_sweeps
from gradscope.errors import UsageError, unknown
from gradscope.experiments.sweep.state import format_seconds

QUESTIONS = (
    "cifar",
    "accumulation",
    "balance",
    "isomerism",
    "limits",
    "transfer",
    "tasks",
)
FIRST = "balance-map"
"""Accuracy over alpha and learning rate: what it shows bears on everything after it."""


def load_questions(names: Sequence[str] = QUESTIONS) -> list[Question]:
    """Import the modules of the questions."""
    return [
        importlib.import_module(f"analyses.questions.{name}.question").QUESTION for name in names
    ]


def spec_order(
    questions: Sequence[Question], first: Sequence[str] = (), only: Sequence[str] = ()
) -> list[str]:
    """Return all specs: those wanted first, the map, then question by question; or some alone.

    Raises
    ------
    UsageError
        If a spec that is named belongs to no question.
    """
    specs = [spec for question in questions for spec in question.specs]
    for name in (*first, *only):
        if name not in specs:
            raise UsageError(unknown("spec", name, specs))
    if only:
        return list(dict.fromkeys([*first, *only]))
    order = dict.fromkeys([*first, *(spec for spec in specs if spec == FIRST), *specs])
    return list(order)


def run(options: argparse.Namespace, questions: Sequence[Question], *, specs: Path = SPECS) -> int:
    """Run, measure and conclude as the options say; exit code 1 where a run failed."""
    _check(options)
    if options.dry_run:
        print(_plan(_queue(options, questions, specs), is_dry=True))
        return 0
    n_failed = 0
    with _alone(options):
        if not options.from_results:
            n_failed = _run_and_measure(options, questions, specs)
        conclude(questions, options.scale, options.results)
    return _draw_figures(options) or min(n_failed, 1)


@contextlib.contextmanager
def _alone(options: argparse.Namespace) -> Iterator[None]:
    """Keep other calls from the folders: each would write over what the other wrote."""
    with contextlib.ExitStack() as stack:
        folders = [options.results] if options.from_results else [options.results, options.runs]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(folder / f".{options.scale}.lock", timeout=0))
            except Timeout as error:
                raise UsageError(
                    f"another call is at work in {folder}; wait for it, or give both --results "
                    "and --runs of your own"
                ) from error
        yield


def _queue(options: argparse.Namespace, questions: Sequence[Question], folder: Path) -> Queue:
    """Return what is planned, with the runs that the tables hold already."""
    specs = spec_order(questions, options.first, options.only)
    sweeps = plan_sweeps(
        specs,
        options.scale,
        options.runs,
        seeds=_positions(options.seeds),
        folder=folder,
        data_dir=options.data_dir,
        amp=options.amp,
    )
    if not sweeps:
        raise UsageError(f"none of {', '.join(specs)} has a [scale.{options.scale}]")
    known = {}
    if not options.afresh:
        known = known_runs(questions, options.results, options.scale, specs)
    return Queue(sweeps, known)


def _run_and_measure(
    options: argparse.Namespace, questions: Sequence[Question], specs: Path
) -> int:
    """Do what fits in the time, and write the tables; returns how many runs failed."""
    queue = _queue(options, questions, specs)
    print(_plan(queue, is_dry=False), flush=True)
    budget = TimeBudget(options.minutes, estimated_seconds)
    failed = run_queue(queue, budget, n_workers=options.workers, scheduler=options.scheduler)
    print(_ended(queue, len(failed)), flush=True)
    scale, results = options.scale, options.results
    written = measure_all(questions, queue.outcomes, scale, results, known=queue.kept())
    if options.afresh and written:
        forget([question for question in questions if question not in written], scale, results)
    return len(failed)


def _check(options: argparse.Namespace) -> None:
    if options.workers < 1:
        raise UsageError(f"--workers must be at least 1; got {options.workers}")
    if options.minutes is not None and not options.minutes > 0:
        raise UsageError(f"--minutes must be more than 0; got {options.minutes:g}")
    if options.dry_run and options.from_results:
        raise UsageError("--from-results runs nothing, so there is no plan for --dry-run")
    if options.only and options.afresh:
        raise UsageError("--only adds to tables, --afresh replaces them whole; give one of them")


def _positions(text: str | None) -> range | None:
    """Read which of the seeds are wanted; None are those of the specs.

    >>> _positions("2"), _positions("3-5")
    (range(0, 2), range(2, 5))
    """
    if text is None:
        return None
    found = re.fullmatch(r"(?:([1-9]\d*)-)?([1-9]\d*)", text)
    if found is None or int(found[1] or 1) > int(found[2]):
        raise UsageError(f"--seeds must be a number from 1, or two such as 3-5; got {text}")
    return range(int(found[1] or 1) - 1, int(found[2]))


def _plan(queue: Queue, *, is_dry: bool) -> str:
    """Say what is to run; in a dry run with how long it will take."""
    todo, lines, total = queue.todo(), [], 0.0
    known: dict[object, float] = {}
    for sweep in queue.sweeps:
        own = [run for run in todo if run.path.parent == sweep.folder]
        ended = len(queue.outcomes[sweep.name])
        line = f"{sweep.name}: {len(sweep.cells)} cells x {len(sweep.seeds)} seeds, arm "
        line += f"{sweep.arm}: {ended} ended, {len(own)} to do"
        if is_dry:
            for planned in own:
                if kind_of(planned.config) not in known:
                    known[kind_of(planned.config)] = estimated_seconds(planned.config)
            seconds = sum(known[kind_of(planned.config)] for planned in own)
            total += seconds
            line += f", about {format_seconds(seconds)} of one worker"
        lines.append(line + _too_few(len(sweep.seeds)))
    more = ", a tuned arm's next trials not counted" if any(s.tuning for s in queue.sweeps) else ""
    lines.append(f"{queue.n_ended} runs ended, {len(todo)} to do{more}")
    if is_dry:
        lines[-1] += f"; about {format_seconds(total)} of one worker"
    return "\n".join(lines)


def _too_few(n_seeds: int) -> str:
    try:
        check_design(n_seeds)
    except UsageError as error:
        return f" (decides no claim: {error})"
    return ""


def _ended(queue: Queue, n_failed: int) -> str:
    ends = [ended.status for outcomes in queue.outcomes.values() for ended in outcomes.values()]
    lines = [
        f"{len(ends) - n_failed} runs ended, {ends.count('diverged')} of them by diverging; "
        f"{n_failed} failed; {len(queue.todo())} left for another call"
    ]
    lines += [f"{name}: the best trial is at the edge of what was tried" for name in queue.edges()]
    lines += [f"{s.name} waits for trials that failed" for s in queue.sweeps if queue.waiting(s)]
    return "\n".join(lines)


def _draw_figures(options: argparse.Namespace) -> int:
    """Draw the figures, which read the results where they are committed."""
    if options.no_figures or options.results != RESULTS:
        return 0
    return subprocess.run([sys.executable, "-m", "figures.all"], check=False).returncode


def _n_workers() -> int:
    """One process a CUDA device, else one a core: small networks gain little from threads."""
    return torch.cuda.device_count() or os.cpu_count() or 1


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scale", choices=SCALES, required=True)
    parser.add_argument("--minutes", type=float, metavar="M", help="for runs (default: no end)")
    parser.add_argument("--seeds", metavar="N", help="a cell: the first N, or N-M (default: all)")
    parser.add_argument("--amp", metavar="DTYPE", help="off, bf16 or fp16 (default: as each spec)")
    parser.add_argument(
        "--first", nargs="+", default=(), metavar="SPEC", help="specs to run before the others"
    )
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="SPEC", help="specs to run, in this order"
    )
    parser.add_argument(
        "--afresh",
        action="store_true",
        help="leave out the runs that the tables in --results hold, and replace those tables",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="files or zip archives of CIFAR")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and its cost")
    parser.add_argument("--from-results", action="store_true", help="run and measure nothing")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/study"),
        metavar="DIR",
        help="recordings (runs/study)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help=f"tables, verdicts ({RESULTS}); others draw no figures",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=_n_workers(),
        metavar="N",
        help="processes (default: one a CUDA device or core)",
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a running dask scheduler")
    parser.add_argument("--no-figures", action="store_true", help="draw no figures")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and return the exit code: 0 done, 1 a run failed, 2 the user's mistake."""
    options = parse(argv)
    return guarded("analyses.all", lambda: run(options, load_questions()))


if __name__ == "__main__":
    raise SystemExit(main())

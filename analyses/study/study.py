"""The study as a whole: from specs to runs, from runs to tables, from tables to five verdicts."""

from __future__ import annotations

import dataclasses
import glob
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analyses.claims.claim import Evidence
from analyses.claims.report import verdicts_markdown, write_verdicts
from analyses.claims.verdict import Verdict, judge
from analyses.study.command import report
from analyses.study.ledger import RUN, join, write_ledger
from analyses.study.question import Answer, Question, Tables
from analyses.study.results import (
    answer_from,
    folder_of,
    has_results,
    read_measured,
    write_measured,
)
from analyses.study.run_records import find_runs, name_of
from gradscope.errors import UsageError
from gradscope.experiments.config import CIFAR, Config, read_toml
from gradscope.experiments.sweep.grid import Finished, Sweep, read_sweep
from gradscope.experiments.sweep.state import read_outcome

SPECS = Path(__file__).parents[1] / "specs"


def plan_sweeps(
    specs: Sequence[str],
    scale: str,
    runs: Path,
    *,
    seeds: range | None = None,
    folder: Path = SPECS,
    data_dir: str | None = None,
    amp: str | None = None,
) -> list[Sweep]:
    """Read the sweeps of a scale.

    Parameters
    ----------
    specs : sequence of str
        Stems, most wanted first; one without ``[scale.<scale>]`` is left out below ``full``.
    scale : {"smoke", "cpu", "mini", "short", "full"}
    runs : Path
        Recordings of each sweep go to a folder of its name in here.
    seeds : range, optional
        Positions among the spec's seeds, from 0; where it has fewer, counted on from its last.
    folder : Path
        Where the specs are.
    data_dir : str, optional
        Where CIFAR is, for the sweeps that train on it.
    amp : {"off", "bf16", "fp16"}, optional
        Precision in place of the specs'.
    """
    return [
        _placed(_sweep(folder / f"{spec}.toml", scale, runs, seeds), data_dir, amp)
        for spec in dict.fromkeys(specs)
        if _has_scale(folder / f"{spec}.toml", scale)
    ]


def _has_scale(path: Path, scale: str) -> bool:
    return scale == "full" or scale in read_toml(path).get("scale", {})


def _sweep(path: Path, scale: str, runs: Path, wanted: range | None) -> Sweep:
    has_own = scale in read_toml(path).get("scale", {})
    sweep = read_sweep(path, scale=scale if has_own else None)
    name = path.stem if scale == "full" else f"{path.stem}-{scale}"
    seeds = sweep.seeds if wanted is None else _seeds_at(sweep.seeds, wanted)
    return dataclasses.replace(sweep, name=name, folder=runs / name, seeds=seeds)


def _placed(sweep: Sweep, data_dir: str | None, amp: str | None) -> Sweep:
    def placed(cell: Config) -> Config:
        if data_dir is not None and cell.dataset in CIFAR:
            cell = cell.replace(data_dir=data_dir)
        return cell if amp is None else cell.replace(amp=amp)

    return dataclasses.replace(sweep, cells=tuple(map(placed, sweep.cells)))


def _seeds_at(seeds: tuple[int, ...], wanted: range) -> tuple[int, ...]:
    """Take the seeds at some positions, counting on from the largest where there are fewer.

    >>> _seeds_at((100, 101), range(1)), _seeds_at((100, 101), range(1, 4))
    ((100,), (101, 102, 103))
    """
    fresh = range(max(seeds) + 1, max(seeds) + 1 + max(0, wanted.stop - len(seeds)))
    return (*seeds, *fresh)[wanted.start : wanted.stop]


def forget(questions: Sequence[Question], scale: str, results: Path) -> None:
    """Remove the tables of questions at a scale, so that they do not stand beside new ones."""
    for question in questions:
        shutil.rmtree(folder_of(results, question.name, scale), ignore_errors=True)


def measure_all(
    questions: Sequence[Question],
    outcomes: Mapping[str, Mapping[Path, Finished]],
    scale: str,
    results: Path,
    *,
    known: Mapping[str, Finished] | None = None,
) -> list[Question]:
    """Measure the recordings of runs that ended, question by question; write tables and ledger.

    A question without any is left as it is. The ledger follows the tables after each question, so
    that the two agree wherever the call is stopped.

    Parameters
    ----------
    questions : sequence of Question
    outcomes : mapping of str to mapping of Path to Finished
        By sweep. What else lies in its folder, left by another version of the spec, is no part.
    scale : {"smoke", "cpu", "mini", "short", "full"}
    results : Path
    known : mapping of str to Finished, optional
        Runs whose rows in the tables are kept, unless their recordings are here and whole.

    Returns
    -------
    list of Question
        Those whose tables were written.
    """
    ledger, written = dict(known or {}), []
    for question in questions:
        folders = _folders(question, scale)
        ended = {path: end for name in folders for path, end in outcomes.get(name, {}).items()}
        here = {path: end for path, end in ended.items() if read_outcome(path) is not None}
        if not here:
            continue
        patterns = [glob.escape(str(path)) for path in here]
        new = question.measure(find_runs(patterns, question.specs, scale=scale))
        _require_names(new, question)
        measured = {name_of(path): end for path, end in here.items()}
        kept = {name for name in ledger if name.rpartition("/")[0] in folders} - set(measured)
        folder = folder_of(results, question.name, scale)
        old = read_measured(folder) if kept else {}
        write_measured(join(old, new, kept), folder)
        ledger |= measured
        write_ledger(ledger, results, scale)
        written.append(question)
    return written


def _require_names(tables: Tables, question: Question) -> None:
    for name, table in tables.items():
        if len(table) and RUN not in table:
            raise UsageError(f"{question.name}: rows of its table {name} do not name their runs")


def _folders(question: Question, scale: str) -> list[str]:
    """Names of the question's sweeps at a scale, which are those of their folders."""
    suffix = "" if scale == "full" else f"-{scale}"
    return [f"{spec}{suffix}" for spec in question.specs]


def answers_of(questions: Sequence[Question], scale: str, results: Path) -> Iterator[Answer]:
    """Answer every question that has measured tables.

    Raises
    ------
    UsageError
        If none has.
    """
    measured = [q for q in questions if has_results(folder_of(results, q.name, scale))]
    if not measured:
        raise UsageError(f"{results} holds no tables of scale {scale}; run the study first")
    for question in measured:
        yield answer_from(question, scale, folder_of(results, question.name, scale))


def conclude(questions: Sequence[Question], scale: str, results: Path) -> tuple[Verdict, ...]:
    """Answer all questions from their tables, judge the five claims together, write and print.

    Writes ``verdicts-<scale>.json`` and ``.md`` into the results.
    """
    evidence: dict[str, Evidence] = {}
    for answer in answers_of(questions, scale, results):
        print(report(answer, folder_of(results, answer.question, scale)), end="\n\n")
        evidence |= answer.evidence
    verdicts = judge(evidence)
    write_verdicts(verdicts, results, name=f"verdicts-{scale}")
    print(f"# The five claims, at scale {scale}\n\n{verdicts_markdown(verdicts)}")
    return verdicts

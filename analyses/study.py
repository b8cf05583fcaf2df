"""The study as a whole: from specs to runs, from runs to tables, from tables to five verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from analyses.claim import Evidence
from analyses.command import report
from analyses.question import Answer, Question
from analyses.results import answer_from, folder_of, write_measured
from analyses.runs import find_runs
from analyses.verdict import Verdict, judge
from analyses.verdict_text import verdicts_markdown, write_verdicts
from gradscope.errors import UsageError
from gradscope.experiments.config import read_toml
from gradscope.experiments.sweep import Sweep, read_sweep

SPECS = Path(__file__).parent / "specs"


def plan_sweeps(
    specs: Sequence[str],
    scale: str,
    runs: Path,
    *,
    n_seeds: int | None = None,
    folder: Path = SPECS,
) -> list[Sweep]:
    """Read the sweeps of a scale.

    Parameters
    ----------
    specs : sequence of str
        Stems, most wanted first; one without ``[scale.<scale>]`` is left out below ``full``.
    scale : {"smoke", "cpu", "short", "full"}
    runs : Path
        Recordings of each sweep go to a folder of its name in here.
    n_seeds : int, optional
        Seeds 0 to n − 1 in place of the spec's own.
    folder : Path
        Where the specs are.
    """
    return [
        _sweep(folder / f"{spec}.toml", scale, runs, n_seeds)
        for spec in dict.fromkeys(specs)
        if _has_scale(folder / f"{spec}.toml", scale)
    ]


def _has_scale(path: Path, scale: str) -> bool:
    return scale == "full" or scale in read_toml(path).get("scale", {})


def _sweep(path: Path, scale: str, runs: Path, n_seeds: int | None) -> Sweep:
    has_own = scale in read_toml(path).get("scale", {})
    sweep = read_sweep(path, scale=scale if has_own else None)
    name = path.stem if scale == "full" else f"{path.stem}-{scale}"
    seeds = sweep.seeds if n_seeds is None else tuple(range(n_seeds))
    return dataclasses.replace(sweep, name=name, folder=runs / name, seeds=seeds)


def measure_all(
    questions: Sequence[Question], sweeps: Sequence[Sweep], scale: str, results: Path
) -> None:
    """Measure the runs that are there, question by question, and write the tables."""
    folders = {sweep.folder for sweep in sweeps if any(sweep.folder.glob("*.h5"))}
    for question in questions:
        own = [str(folder) for folder in sorted(folders) if _is_of(folder, question, scale)]
        if own:
            runs = find_runs(own, question.specs, scale=scale)
            write_measured(question.measure(runs), folder_of(results, question.name, scale))


def _is_of(folder: Path, question: Question, scale: str) -> bool:
    suffix = "" if scale == "full" else f"-{scale}"
    return folder.name in {f"{spec}{suffix}" for spec in question.specs}


def answers_of(questions: Sequence[Question], scale: str, results: Path) -> Iterator[Answer]:
    """Answer every question that has measured tables.

    Raises
    ------
    UsageError
        If none has.
    """
    measured = [
        q for q in questions if (folder_of(results, q.name, scale) / "answer.json").exists()
    ]
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

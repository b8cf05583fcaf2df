"""``python -m analyses.<question> RUNS…``: one question answered from recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from analyses.claims.claim import SCALES
from analyses.claims.report import explored_markdown, verdicts_markdown
from analyses.claims.verdict import judge
from analyses.study.question import Answer, Question
from analyses.study.results import answer_from, explored_table, folder_of, write_measured
from analyses.study.run_records import find_runs
from gradscope.errors import GradscopeError, UsageError

RESULTS = Path("data/results")


def command(question: Question, argv: Sequence[str] | None = None) -> int:
    """Run a question's command line and return its exit code: 0 done, 2 the user's mistake.

    Parameters
    ----------
    question : Question
    argv : sequence of str, optional
        By default the arguments of the process.
    """
    options = _parser(question).parse_args(argv)
    return guarded(question.name, lambda: _answer(question, options))


def guarded(name: str, work: Callable[[], int]) -> int:
    """Do the work; a user's mistake becomes one line and exit code 2."""
    try:
        return work()
    except (GradscopeError, OSError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def report(answer: Answer, folder: Path) -> str:
    """Return what a question came to, as Markdown: verdicts, exploratory numbers, notes."""
    # All five claims are the family, whichever were asked: the correction may not depend on it.
    verdicts = [v for v in judge(answer.evidence) if v.key in answer.evidence]
    parts = [f"# {answer.question}, at scale {answer.scale}"]
    parts += [verdicts_markdown(verdicts)] if verdicts else ["No primary claim has runs."]
    parts += [explored_markdown(explored_table(answer), answer.scale)] if answer.explored else []
    parts += ["\n".join(f"- {note}" for note in answer.notes)] if answer.notes else []
    return "\n\n".join([part.strip() for part in parts] + [f"Tables are in {folder}."])


def _answer(question: Question, options: argparse.Namespace) -> int:
    runs = find_runs(options.runs, question.specs, scale=options.scale, spec=options.spec)
    folder = folder_of(options.results, question.name, runs.scale)
    if (options.results / f"runs-{runs.scale}.json").exists():
        raise UsageError(
            f"{folder} is of a study, to which analyses.all adds; give other --results"
        )
    write_measured(question.measure(runs), folder)
    print(report(answer_from(question, runs.scale, folder), folder))
    if runs.n_left_out:
        print(f"\n{runs.n_left_out} runs are left out: they failed, or have not ended.")
    return 0


def _parser(question: Question) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m analyses.{question.name}",
        description=f"Answer {question.name} from recordings of its specs: "
        f"{', '.join(question.specs)}.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="recordings, folders or patterns")
    parser.add_argument("--scale", choices=SCALES, help="take only runs of this scale")
    parser.add_argument(
        "--spec", help="take all recordings as runs of this spec, whatever their folder is called"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help=f"({RESULTS})")
    return parser

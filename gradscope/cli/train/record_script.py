"""The half of ``gradscope record`` that runs somebody's script."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.cli.output import check_output, format_bytes, is_first_rank
from gradscope.cli.recordings import as_path
from gradscope.cli.train.story import LATE, STOPPED, feeding
from gradscope.cli.values import read_overhead
from gradscope.errors import UsageError, unknown
from gradscope.experiments.training.options import read

if TYPE_CHECKING:
    from gradscope.record.autolog.run_script import ScriptOutcome

PRESETS = ("light", "standard", "full")
MAX_FED = 20
"""Trainings of a script whose curves are sent to other tools."""
OURS = {"every"}
"""Options of the built-in experiment that mean the same for a script."""


def run_script(
    arguments: argparse.Namespace, script: list[str], *, stop_on: tuple[str, ...] = ()
) -> int:
    """Run and record ``python SCRIPT ARGS`` or ``python -m MODULE ARGS``; its exit code.

    Raises
    ------
    UsageError
        If an option belongs to the built-in experiment, or a value cannot be used.
    """
    from gradscope.record.autolog.options import ScriptOptions
    from gradscope.record.autolog.run_script import record_script

    words = arguments.module or script
    _refuse_experiment(arguments, words[0])
    folder = as_path(words[0], "a script")
    if not arguments.module and folder.is_dir() and not (folder / "__main__.py").is_file():
        raise UsageError(f"{folder} is a folder without __main__.py; name a script")
    preset = arguments.record or "standard"
    if preset not in PRESETS:
        raise UsageError(unknown("value of --record", preset, PRESETS))
    path = as_path(arguments.out) if arguments.out is not None else default_script_path(words[0])
    if is_first_rank():
        check_output(path, is_overwritten=arguments.overwrite)
    options = ScriptOptions(
        path.absolute(),
        every=_every(getattr(arguments, "key_every", "auto")),
        record=preset,
        max_overhead=read_overhead(arguments),
        if_exists="overwrite" if arguments.overwrite else "error",
        name=arguments.name,
        tags=tuple(arguments.tags),
        notes=arguments.notes,
        stop_on=stop_on,
        is_chosen=arguments.out is not None,
    )
    with feeding(arguments, lambda: [options.path_of(n) for n in range(1, MAX_FED + 1)]):
        outcome = record_script(words, options, is_module=bool(arguments.module))
    if is_first_rank():
        tell(outcome, is_quiet=arguments.quiet)
        if arguments.json:
            _print_json(outcome)
    return outcome.exit_code


def default_script_path(word: str) -> Path:
    """Return ``runs/<script>-<UTC>.h5``.

    >>> default_script_path("examples/train.py").name.partition("-")[0]
    'train'
    """
    now = datetime.datetime.now(datetime.UTC)
    return Path("runs") / f"{Path(word).stem or 'script'}-{now:%Y%m%dT%H%M%SZ}.h5"


def _refuse_experiment(arguments: argparse.Namespace, word: str) -> None:
    given = [name.removeprefix("key_") for name in vars(arguments) if name.startswith("key_")]
    flags = ["--" + name.replace("_", "-") for name in given if name not in OURS]
    flags += ["--config"] * (arguments.config is not None)
    if flags:
        raise UsageError(
            f"{flags[0]} belongs to the built-in experiment and means nothing to a script; options "
            f"of the script stand behind it: gradscope record {word} {flags[0]} …"
        )


def _every(text: str) -> str | int:
    every = read(text, "cadence")
    if isinstance(every, int) and every >= 1:
        return every
    if every == "auto":
        return "auto"
    raise UsageError(f"`every` must be a whole number of at least 1, or auto; got {text!r}")


def tell(outcome: ScriptOutcome, *, is_quiet: bool) -> None:
    """Say on standard error what was recorded, or why nothing was."""
    for problem in outcome.problems:
        print(f"gradscope record: warning: {problem}", file=sys.stderr)
    if outcome.why_nothing and not outcome.problems:
        print(f"gradscope record: nothing was recorded: {outcome.why_nothing}", file=sys.stderr)
    if outcome.why_stopped:
        words = LATE if outcome.has_ended_itself else STOPPED
        words += outcome.why_stopped
        print(f"gradscope record: {words}", file=sys.stderr)
    if is_quiet:
        return
    for item in outcome.recorded:
        path = _as_typed(item.path)
        size = format_bytes(item.path.stat().st_size) if item.path.exists() else "not merged"
        steps = f"{item.n_steps:,} step{'s' * (item.n_steps != 1)}"
        print(
            f"gradscope record: {path} ({size}): {steps} of {item.model}, {item.optimizer}\n"
            f"next: gradscope plot {shlex.quote(str(path))}",
            file=sys.stderr,
        )


def _print_json(outcome: ScriptOutcome) -> None:
    from gradscope.cli.train.result import print_result

    paths = [_as_typed(item.path) for item in outcome.recorded]
    problems = outcome.problems or ([outcome.why_nothing] if outcome.why_nothing else [])
    print_result(paths, outcome.exit_code, problems=problems)


def _as_typed(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

"""Options of ``gradscope record`` about a run as a whole: words, when it ends, who is told."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gradscope.cli.output import is_first_rank
from gradscope.cli.recordings import as_path
from gradscope.errors import UsageError, unknown


def add_story(parser: argparse.ArgumentParser) -> None:
    """Add name, tags, notes, and the rules that end a run."""
    story = parser.add_argument_group("description and end of the run")
    story.add_argument("--name", default="", metavar="NAME", help="name of the run")
    story.add_argument(
        "--tag",
        action="append",
        default=[],
        dest="tags",
        type=read_tag,
        metavar="WORD",
        help="tag to find and group runs by; may be repeated",
    )
    story.add_argument("--notes", default="", metavar="TEXT", help="free text")
    story.add_argument(
        "--stop-on",
        action="append",
        default=[],
        metavar="RULE",
        help="stop with exit code 3 when this health rule fires, or any rule of this severity "
        "(error, warning); may be repeated; `--stop-on list` lists the rules",
    )


def add_sinks(parser: argparse.ArgumentParser) -> None:
    """Add the tools that curves are sent to."""
    sinks = parser.add_argument_group("curves sent to other tools during training")
    sinks.add_argument("--tensorboard", metavar="DIR", help="write event files to DIR/<recording>")
    sinks.add_argument(
        "--wandb", metavar="PROJECT", help="log to a run of this Weights & Biases project"
    )


STOPPED = "stopped, as --stop-on asks: "
LATE = "the training had ended before --stop-on could stop it: "
"""Words before the finding of a health rule."""


@contextlib.contextmanager
def feeding(arguments: argparse.Namespace, paths: Callable[[], Sequence[Path]]) -> Iterator[None]:
    """Send curves to the tools that were asked for, for the length of a ``with`` block."""
    events = check_sinks(arguments)
    if not is_first_rank() or (events is None and arguments.wandb is None):
        yield
        return
    from gradscope.integrations.feed import SinkFeed, tensorboard_sinks, wandb_sinks

    makers = []
    if events is not None:
        makers.append(tensorboard_sinks(events))
    if arguments.wandb is not None:
        makers.append(wandb_sinks(arguments.wandb))
    feed = SinkFeed(paths, makers)
    try:
        yield
    finally:
        feed.close()


def check_sinks(arguments: argparse.Namespace) -> Path | None:
    """Return the folder of ``--tensorboard``.

    Raises
    ------
    UsageError
        If it is no folder, or ``--wandb`` names no project.
    """
    if arguments.wandb is not None and not arguments.wandb.strip():
        raise UsageError("--wandb takes the name of a project")
    if arguments.tensorboard is None:
        return None
    folder = as_path(arguments.tensorboard, "a folder for --tensorboard")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--tensorboard {folder} is no folder")
    return folder


def read_tag(text: str) -> str:
    """Read a tag.

    Raises
    ------
    ArgumentTypeError
        If it is empty or has a comma.
    """
    if not text.strip() or "," in text:
        raise argparse.ArgumentTypeError(f"a tag is a word without commas; got {text!r}")
    return text


def read_rules(texts: list[str]) -> tuple[str, ...]:
    """Read the health rules of ``--stop-on``.

    Raises
    ------
    UsageError
        If one is unknown.
    """
    if not texts:
        return ()
    from gradscope.derived.health.check import RULES

    known = {name.lower(): name for name in ("error", "warning", *(rule.name for rule in RULES))}
    words = [text.strip().lower().replace("_", " ") for text in texts]
    by_dash = {name.replace("-", " "): own for name, own in known.items()}
    for word in words:
        if word.replace("-", " ") not in by_dash:
            raise UsageError(unknown("rule of --stop-on", word, known.values()))
    return tuple(by_dash[word.replace("-", " ")] for word in words)


def list_rules() -> int:
    """Print every health rule with what it looks at."""
    from gradscope.derived.health.check import RULES

    for rule in RULES:
        print(f"{rule.name}: {' '.join(rule.formula.split())}")
    return 0

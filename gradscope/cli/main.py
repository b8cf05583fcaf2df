# PYTHON_ARGCOMPLETE_OK
"""Entry point of the command line; reports user errors in one line.

Each subcommand is a module beside this one with ``SUMMARY``, ``configure(parser)`` and
``run(arguments) -> exit code``; heavy imports are inside ``run``.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from gradscope import __version__
from gradscope.errors import GradscopeError, unknown

COMMANDS = {
    "record": "train",
    "sweep": "train",
    "plot": "show",
    "compare": "show",
    "report": "show",
    "view": "show",
    "ls": "show",
    "info": "files",
    "tail": "files",
    "validate": "files",
    "repair": "files",
    "export": "files",
    "import": "files",
}
"""Each subcommand and the package of its module."""

MAX_NAME = 120
"""Letters of a file's name in an error of the system."""

READERS = {"plot", "compare", "report", "view", "ls", "info", "tail"}
"""Subcommands that open recordings, which are lazy without dask."""


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to read on, and exit with code 2."""
        command = self.prog.removeprefix("gradscope").strip()
        self.exit(2, f"{self.prog}: {message}; see {f'gradscope help {command}'.strip()}\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every subcommand; imports nothing heavy."""
    parser = Parser(
        prog="gradscope",
        description="Record, store and plot how gradients move through a network during training.",
    )
    parser.add_argument("--version", action="version", version=f"gradscope {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, room in COMMANDS.items():
        module = importlib.import_module(f"gradscope.cli.{room}.{name}")
        subparser = subparsers.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(subparser)
        subparser.set_defaults(run=module.run)
    helper = subparsers.add_parser("help", help="explain a command", allow_abbrev=False)
    helper.add_argument("topic", metavar="COMMAND", nargs="?", choices=[*COMMANDS])
    helper.set_defaults(run=lambda arguments: print_help(parser, subparsers, arguments.topic))
    return parser


def print_help(
    parser: argparse.ArgumentParser,
    subparsers: argparse._SubParsersAction[Parser],
    topic: str | None,
) -> int:
    """Print the help of a command, or of all."""
    (subparsers.choices[topic] if topic else parser).print_help()
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; what is unknown is a line that names what was probably meant."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("argcomplete").autocomplete(parser)
    if argv and (words := _explain_start(parser, argv)):
        parser.exit(2, f"gradscope: {words}\n")
    arguments, extra = parser.parse_known_args(argv)
    if extra:
        words = _explain(parser, arguments.command, extra[0])
        parser.exit(2, f"gradscope {arguments.command}: {words}\n")
    return arguments


def _explain_start(parser: argparse.ArgumentParser, argv: Sequence[str]) -> str:
    """Say what is unknown before the words of a command begin; nothing if all is known."""
    first, *rest = argv
    if first == "help" and rest and not rest[0].startswith("-") and rest[0] not in COMMANDS:
        return unknown("command", rest[0], COMMANDS)
    if not first.startswith("-"):
        return "" if first in (*COMMANDS, "help") else unknown("command", first, COMMANDS)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    return "" if first in flags else _unknown_option(first, flags, "gradscope help")


def _unknown_option(word: str, flags: Sequence[str], see: str) -> str:
    near = difflib.get_close_matches(word.partition("=")[0], flags, n=1)
    return f"unknown option {word!r}; {f'did you mean {near[0]}?' if near else f'see {see}'}"


def _explain(parser: argparse.ArgumentParser, command: str, word: str) -> str:
    if not word.startswith("-"):
        return f"{word!r} is one argument too many; see gradscope help {command}"
    choices = next(a.choices for a in parser._actions if isinstance(a.choices, dict))
    flags = [flag for action in choices[command]._actions for flag in action.option_strings]
    return _unknown_option(word, flags, f"gradscope help {command}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 success, 2 usage error, 130 Ctrl-C."""
    command = ""
    open_streams()
    try:
        for stream in (sys.stdout, sys.stderr):  # a file's name may be no text
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        arguments = parse(sys.argv[1:] if argv is None else argv)
        command = f" {arguments.command}"
        if argv is None and arguments.command in READERS:
            # Otherwise xarray's first variable loads dask.array, and half of SciPy: a second.
            sys.modules.setdefault("dask", None)  # type: ignore[arg-type]
        return int(arguments.run(arguments))
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (GradscopeError, OSError) as error:
        print(f"gradscope{command}: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def open_streams() -> None:
    """Give standard streams that are closed the null device.

    Else the next file that is opened takes their number, and what is printed goes into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def one_line(error: Exception) -> str:
    """Say an error in one line, those of the system without their number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        name = os.fspath(error.filename)
        name = os.fsdecode(name) if isinstance(name, bytes) else str(name)
        name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
        return f"{name}: {_uncapital(error.strerror)}"
    if isinstance(error, OSError) and error.strerror:
        return _uncapital(error.strerror)
    return " ".join(str(error).split())


def _uncapital(words: str) -> str:
    return words[:1].lower() + words[1:]


if __name__ == "__main__":
    sys.exit(main())

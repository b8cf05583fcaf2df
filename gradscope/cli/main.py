"""Entry point of the command line; reports user errors in one line.

Each subcommand is a module beside this one with ``SUMMARY``, ``configure(parser)`` and
``run(arguments) -> exit code``; heavy imports are inside ``run``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from gradscope import __version__
from gradscope.errors import GradscopeError

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
}
"""Each subcommand and the package of its module."""

READERS = {"plot", "compare", "report", "view", "ls", "info", "tail"}
"""Subcommands that open recordings, which are lazy without dask."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every subcommand; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="gradscope",
        description="Record, keep and draw how gradients move through a network while it trains.",
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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 success, 2 usage error, 130 Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    if argv is None and arguments.command in READERS:
        # Otherwise xarray's first variable loads dask.array, and with it half of SciPy: a second.
        sys.modules.setdefault("dask", None)  # type: ignore[arg-type]
    try:
        code: int = arguments.run(arguments)
        return code
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (GradscopeError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"gradscope {arguments.command}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""Check recordings against the format and print every violation at once; changes nothing."""

from __future__ import annotations

import argparse

from gradscope.cli.output import add_json, print_json
from gradscope.cli.recordings import find_recordings

SUMMARY = "check recordings against the format"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "recordings",
        nargs="*",
        metavar="RUN",
        help="recording, run.h5, a folder or a quoted pattern (default: the newest in runs/)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the violations of each recording; 1 if there are any."""
    from gradscope.store.maintain.validate import violations

    recordings = find_recordings(arguments.recordings, "validate")
    found = {str(path): violations(path) for path in recordings}
    if arguments.json:
        print_json(found)
    else:
        for path, lines in found.items():
            count = f"{len(lines)} violation{'s' if len(lines) > 1 else ''}"
            print(f"{path}: {count if lines else 'sound'}")
            print("".join(f"  {line}\n" for line in lines), end="")
    return 1 if any(found.values()) else 0

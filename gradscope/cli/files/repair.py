"""Make the finished file of a killed run, or rewrite a file of an older schema.

The files that were read stay as they are.
"""

from __future__ import annotations

import argparse

SUMMARY = "make the finished file of a killed run, or update an old one"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recording", metavar="RUN", help="recording, run.h5 or run.h5.part")
    parser.add_argument("-o", "--output", metavar="FILE", help="file to make (default: run.h5)")


def run(arguments: argparse.Namespace) -> int:
    """Repair, and say what was kept and what was not."""
    from gradscope.store.maintain.repair import repair

    done = repair(arguments.recording, arguments.output)
    rows = ", ".join(f"{n} rows of {name}" for name, n in done.n_rows.items())
    print(f"{done.target}: {rows or 'no rows'}")
    for reason in done.left_out:
        print(f"  left out: {reason}")
    if done.n_segments:
        print("  the segments stay where they are; remove them when you are content")
    return 0

"""Finish the file of a killed run, or rewrite a file in the current schema.

The source files are not changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os

from gradscope.cli.output import add_json, add_out, print_json, probe, refuse_existing
from gradscope.cli.recordings import as_path, as_recording

SUMMARY = "finish the file of a killed run, or update an old file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recording", metavar="RUN", help="recording, run.h5 or run.h5.part")
    add_out(parser, "FILE", "file to make (default: run.h5)")
    parser.add_argument("--output", dest="out", help=argparse.SUPPRESS)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Repair, and say what was kept and what was not."""
    from gradscope.store.format.segments import finished_path
    from gradscope.store.maintain.repair import repair
    from gradscope.store.read.lazy import files_of

    source = as_recording(arguments.recording)
    files_of(finished_path(source))  # before a folder is made
    target = finished_path(source) if arguments.out is None else as_path(arguments.out)
    refuse_existing(target, is_overwritten=arguments.overwrite)
    probe(target)
    if target.is_file():
        new = target.with_name(f".{target.name}.{os.getpid()}")
        done = dataclasses.replace(repair(source, new), target=target)
        new.replace(target)
    else:
        done = repair(source, target)
    if arguments.json:
        print_json(dataclasses.asdict(done))
        return 0
    rows = ", ".join(f"{n} rows of {name}" for name, n in done.n_rows.items())
    print(f"{done.target}: {rows or 'no rows'}")
    for reason in done.left_out:
        print(f"  left out: {reason}")
    if done.n_segments:
        print("  the segments stay where they are; remove them when you are content")
    return 0

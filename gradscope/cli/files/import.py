"""Import the scalars in TensorBoard event files as recordings.

Each folder with event files becomes a recording, which `ls`, `view`, `report` and `compare` show
beside others.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from gradscope.cli.output import add_json, add_out, print_json, probe, refuse_existing
from gradscope.cli.recordings import as_path
from gradscope.errors import UsageError

SUMMARY = "import TensorBoard runs as recordings"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", metavar="DIR", help="folder with event files, or of such folders")
    add_out(parser, "PATH", "run.h5 of one run, a folder for several (default: beside each)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import, and say what became of the tags."""
    from gradscope.integrations.import_tensorboard import find_event_runs, import_events

    folder = as_path(arguments.folder, "a folder")
    runs = find_event_runs(folder)
    targets = choose_targets(folder, runs, arguments.out)
    for _, target in targets:
        refuse_existing(target, is_overwritten=arguments.overwrite)
    if_exists = "overwrite" if arguments.overwrite else "error"
    found = []
    for own, target in targets:
        probe(target)
        found.append(import_events(own, target, if_exists=if_exists))
    if arguments.json:
        print_json([dataclasses.asdict(one) for one in found])
        return 0
    for one in found:
        print(f"{one.target}: {one.n_steps:,} steps of {len(one.names)} scalars")
        if one.left_out:
            print(f"  left out, since they are no scalars: {', '.join(sorted(one.left_out))}")
    return 0


def choose_targets(folder: Path, runs: list[Path], out: str | None) -> list[tuple[Path, Path]]:
    """Return each folder of events with the recording to make of it.

    Raises
    ------
    UsageError
        If one file is named for several runs.
    """
    if out is None:
        return [(own, own.with_name(f"{own.resolve().name}.h5")) for own in runs]
    target = as_path(out)
    if target.suffix != ".h5":
        stems = ["-".join(own.relative_to(folder).parts) or own.resolve().name for own in runs]
        return [(own, target / f"{stem}.h5") for own, stem in zip(runs, stems, strict=True)]
    if len(runs) > 1:
        raise UsageError(f"{folder} holds {len(runs)} runs; let --out name a folder")
    return [(runs[0], target)]

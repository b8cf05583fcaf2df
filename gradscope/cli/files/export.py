"""Write a recording, derived variables included, in another format.

netCDF, Zarr, CSV, Parquet (one table for each group) or TensorBoard events.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from gradscope.cli.output import (
    add_json,
    add_out,
    format_bytes,
    print_json,
    probe,
    refuse_existing,
)
from gradscope.cli.recordings import as_path, one_recording
from gradscope.errors import UsageError

SUMMARY = "write a recording in another format"
_SUFFIXES = {
    "netcdf": ".nc",
    "zarr": ".zarr",
    "csv": ".csv.d",
    "parquet": ".parquet.d",
    "tensorboard": ".tensorboard",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recording", metavar="RECORDING", help="recording, run.h5")
    parser.add_argument("--to", required=True, choices=_SUFFIXES, help="format")
    add_out(parser, "PATH", "new file or folder (default: beside the recording)")
    parser.add_argument("--output", dest="out", help=argparse.SUPPRESS)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export, and say where it is."""
    from gradscope.store.format.segments import finished_path
    from gradscope.store.maintain.export import export

    source = one_recording(arguments.recording, "export")
    beside = finished_path(source).with_suffix(_SUFFIXES[arguments.to])
    target = beside if arguments.out is None else as_path(arguments.out)
    refuse_existing(target, is_overwritten=arguments.overwrite)
    probe(target)
    put(target, _SUFFIXES[arguments.to], lambda new: export(source, new, arguments.to))
    size = sum(p.stat().st_size for p in (target, *target.rglob("*")) if p.is_file())
    if arguments.json:
        print_json({"recording": str(source), "target": str(target), "n_bytes": size})
    else:
        print(f"{source} -> {target} ({format_bytes(size)})")
    return 0


def put(target: Path, suffix: str, make: Callable[[Path], object]) -> None:
    """Make a new file or folder, then put it where it belongs; nothing is left of a failure.

    Raises
    ------
    UsageError
        If what is there is a folder that no export made.
    """
    if target.is_dir() and not target.name.endswith(suffix):
        raise UsageError(f"{target} is a folder that does not end in {suffix}: it is kept")
    new = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        make(new)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        new.replace(target)
    finally:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            new.unlink(missing_ok=True)

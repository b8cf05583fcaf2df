"""Write a recording, derived variables included, as netCDF, Zarr, CSV or TensorBoard events."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "write a recording in another format"
_SUFFIXES = {"netcdf": ".nc", "zarr": ".zarr", "csv": ".csv.d", "tensorboard": ".tensorboard"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recording", metavar="RECORDING", help="recording, run.h5")
    parser.add_argument("--to", required=True, choices=_SUFFIXES, help="format")
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="new file or folder (default: beside the recording)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Export, and say where it is."""
    from gradscope.store.format.segments import finished_path
    from gradscope.store.maintain.export import export

    beside = finished_path(arguments.recording).with_suffix(_SUFFIXES[arguments.to])
    target = export(arguments.recording, arguments.output or beside, arguments.to)
    size = sum(p.stat().st_size for p in (target, *Path(target).rglob("*")) if p.is_file())
    print(f"{arguments.recording} -> {target} ({size / 1e6:.1f} MB)")
    return 0

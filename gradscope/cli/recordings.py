"""The recordings that the arguments of a command mean."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.errors import UsageError

if TYPE_CHECKING:
    import xarray

RUNS = "runs"
"""Folder that recordings go to by default."""
MAX_DEPTH_POINTS = 1000


def find_recordings(arguments: Sequence[str], command: str) -> list[Path]:
    """Return the recordings that arguments name; without any, the newest below ``runs/``.

    Raises
    ------
    FileNotFoundError
        If a pattern matches nothing, or there is no newest recording.
    UsageError
        If an argument is empty, or a folder without recordings.
    """
    if not arguments:
        return [newest_recording(command)]
    found = dict.fromkeys(path for argument in arguments for path in expand(argument))
    return list(found)


def newest_recording(command: str) -> Path:
    """Return the newest recording below ``runs/``, and say on standard error which it is."""
    from gradscope.store.read.recording import latest

    if not Path(RUNS).is_dir():
        raise UsageError(f"name a recording; there is no folder {RUNS}/ to take the newest from")
    path = latest(RUNS)
    print(f"gradscope {command}: {path}, the newest recording in {RUNS}/", file=sys.stderr)
    return path


def expand(argument: str) -> list[Path]:
    """Return the recordings that one argument means: a file, those in a folder, or of a pattern.

    What exists under the name is meant, even where the name looks like a pattern.

    Raises
    ------
    FileNotFoundError
        If a pattern matches nothing.
    UsageError
        If it is empty, or a folder without recordings.
    """
    from gradscope.store.format.segments import PART_SUFFIX, finished_path, part_folder

    path = as_path(argument)
    if path.is_dir() and not path.name.endswith(PART_SUFFIX):
        found = [p for p in path.glob("*.h5") if not p.is_dir()]
        files = {finished_path(p) for p in (*found, *path.glob(f"*.h5{PART_SUFFIX}"))}
        if not files:
            raise UsageError(f"there is no recording (*.h5) in {argument}")
        return sorted(files)
    if path.exists() or (path.name and part_folder(path).exists()) or not glob.has_magic(argument):
        return [path]
    matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207
    if not matches:
        raise FileNotFoundError(f"no recording matches {argument}")
    return list(dict.fromkeys(finished_path(match) for match in matches))


def one_recording(argument: str | None, command: str) -> Path:
    """Return the one recording that an argument names, as for a command that reads just one.

    Raises
    ------
    UsageError
        If it is empty, or a folder with none or several.
    """
    found = find_recordings([argument] if argument is not None else [], command)
    if len(found) > 1:
        raise UsageError(f"{argument} holds {len(found)} recordings; name one, such as {found[0]}")
    return found[0]


def as_recording(text: str) -> Path:
    """Return the path of one recording, which may not exist yet.

    Raises
    ------
    UsageError
        If it is empty or a folder.
    """
    path = as_path(text)
    if not path.name or (path.is_dir() and not path.name.endswith(".part")):
        raise UsageError(f"{text} is a folder; name a recording, such as {path / 'run.h5'}")
    return path


def as_path(text: str, what: str = f"a recording, such as {RUNS}/run.h5") -> Path:
    """Return a path.

    Raises
    ------
    UsageError
        If the text is empty or no path.
    """
    try:
        is_path = bool(text.strip()) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        raise UsageError(f"{text!r} is no path; name {what}")
    return Path(text)


def add_relative_depth(parser: argparse.ArgumentParser) -> None:
    """Add the option that aligns other architectures, for `open_together`."""
    parser.add_argument(
        "--relative-depth",
        type=int,
        metavar="POINTS",
        help="align other architectures: that many points from input to output",
    )


def open_together(
    files: Sequence[Path], relative_depth: int | None, **options: Any
) -> xarray.DataTree:
    """Open recordings as one tree, with the options of `gradscope.open_runs`.

    Raises
    ------
    UsageError
        If they cannot be aligned, or the number of points is no use.
    """
    from gradscope.store.read.alignment import ALIGNED
    from gradscope.store.read.runs import open_runs

    if relative_depth is not None and not 2 <= relative_depth <= MAX_DEPTH_POINTS:
        raise UsageError(
            f"--relative-depth takes 2 to {MAX_DEPTH_POINTS:,} points; got {relative_depth}"
        )
    paths = [glob.escape(str(file)) for file in files]
    try:
        return open_runs(paths, relative_depth=relative_depth, **options)
    except UsageError as error:
        raise UsageError(str(error).replace(ALIGNED, "--relative-depth POINTS")) from None

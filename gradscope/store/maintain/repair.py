"""A finished file from what a crash left behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gradscope.errors import RecordingError, RecordingExistsError
from gradscope.store.format.contents import read_contents
from gradscope.store.format.segments import LOCK_NAME, finished_path, part_folder
from gradscope.store.maintain.validate import rows_readable
from gradscope.store.read.lazy import files_of
from gradscope.store.write.lock import is_held
from gradscope.store.write.merge import merge_files


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    ``left_out`` names the segments that could not be read, with the reason.
    """

    target: Path
    n_rows: dict[str, int]
    left_out: tuple[str, ...]


def repair(path: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> Repair:
    """Merge the segments of a run that was killed; the segments stay where they are.

    Parameters
    ----------
    path : path-like
        The recording, ``run.h5``, or its folder ``run.h5.part``.
    target : path-like, optional
        File to make; by default the one that the run would have made.

    Raises
    ------
    FileNotFoundError
        If there is nothing to repair.
    RecordingExistsError
        If ``target`` exists, or the run is still being written.
    RecordingError
        If no piece can be read.
    """
    source = finished_path(path)
    goal = source if target is None else Path(target)
    if goal.exists():
        raise RecordingExistsError(f"{goal} exists; repair makes a new file, choose another name")
    if is_held(part_folder(source) / LOCK_NAME):
        raise RecordingExistsError(f"{source} is still being written; nothing to repair")
    sound, left_out = [], []
    for file in files_of(source):
        try:
            rows_readable(read_contents(file))
            sound.append(file)
        except (RecordingError, OSError) as error:
            left_out.append(" ".join(str(error).split()))
    if not sound:
        raise RecordingError(f"no piece of {source} can be read: {left_out[0]}")
    merge_files(sound, goal, attrs=_end_of(sound[-1]))
    groups = read_contents(goal).groups
    return Repair(goal, {name: len(g.rows) for name, g in groups.items()}, tuple(left_out))


def _end_of(last: Path) -> dict[str, object]:
    """A run that still calls itself running was interrupted."""
    status = read_contents(last).attrs.get("status")
    ended = status if status not in (None, "running") else "interrupted"
    return {"status": ended, "is_complete": 0, "resume_step": None}

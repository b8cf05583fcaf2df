"""Repair: a finished file from the segments of a killed run or from an older recording."""

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
    """Result of a repair.

    Parameters
    ----------
    target : Path
        The new file.
    n_rows : dict of str to int
        Number of rows of each group.
    left_out : tuple of str
        Segments that could not be read, with the reason.
    n_segments : int
        Number of segments read; 0 if a finished file was rewritten.
    """

    target: Path
    n_rows: dict[str, int]
    left_out: tuple[str, ...]
    n_segments: int


def repair(path: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> Repair:
    """Merge the segments of a killed run, or rewrite a finished file in the current schema.

    Numbers are copied bit for bit, and the source files are not changed.

    Parameters
    ----------
    path : path-like
        The recording, ``run.h5``, or its folder ``run.h5.part``.
    target : path-like, optional
        File to write; by default the one that the run would have written. A finished recording
        needs another name.

    Raises
    ------
    FileNotFoundError
        If there is nothing to repair.
    RecordingExistsError
        If ``target`` exists, or the run is still being written.
    RecordingError
        If no segment can be read.
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
        raise RecordingError(f"no segment of {source} can be read: {left_out[0]}")
    is_finished = sound == [source]
    merge_files(sound, goal, attrs={} if is_finished else _end_of(sound[-1]))
    groups = read_contents(goal).groups
    return Repair(
        target=goal,
        n_rows={name: len(group.rows) for name, group in groups.items()},
        left_out=tuple(left_out),
        n_segments=0 if is_finished else len(sound),
    )


def _end_of(last: Path) -> dict[str, object]:
    """Return the attributes of a killed run: status running becomes interrupted."""
    status = read_contents(last).attrs.get("status")
    ended = status if status not in (None, "running") else "interrupted"
    return {"status": ended, "is_complete": 0, "resume_step": None}

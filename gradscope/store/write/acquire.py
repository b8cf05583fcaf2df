"""Acquisition of the path of a new or resumed recording, and its first attributes."""

from __future__ import annotations

import contextlib
import datetime
import errno
from pathlib import Path
from typing import Any

from gradscope import __version__, schema
from gradscope.errors import RecordingExistsError
from gradscope.store.format.contents import read_contents
from gradscope.store.format.segments import (
    LOCK_NAME,
    list_segments,
    move,
    part_folder,
    segment_name,
    sync_folder,
)
from gradscope.store.write.lock import HELD_HERE, WriterLock


def claim(path: Path, if_exists: str) -> WriterLock:
    """Take the lock, then clear the path or turn the existing recording into the first segment."""
    folder = part_folder(path)
    _refuse(path, folder, if_exists)
    try:
        lock = _locked(folder)
    except BlockingIOError as error:
        is_here = error.strerror == HELD_HERE
        whom = "this process; close its recorder first" if is_here else "another process"
        raise RecordingExistsError(f"{path} is being written by {whom}") from error
    except BaseException:
        give_back(None, path)
        raise
    try:
        _refuse(path, folder, if_exists)  # again: its writer may have ended while we waited
        _clear(path, folder, if_exists)
    except BaseException:
        give_back(lock, path)
        raise
    return lock


def _refuse(path: Path, folder: Path, if_exists: str) -> None:
    if path.is_dir():
        raise RecordingExistsError(
            f"{path} is a folder; give the name of a file, such as {path / 'run.h5'}"
        )
    if if_exists == "error" and (path.exists() or list_segments(folder)):
        raise RecordingExistsError(
            f"a recording stands at {path}; choose another name, "
            "or if_exists='overwrite' or 'resume'"
        )


def _locked(folder: Path) -> WriterLock:
    """Lock the folder, made again if a writer that ends just now has removed it."""
    for _ in range(20):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return WriterLock(folder / LOCK_NAME)
    raise BlockingIOError(errno.EAGAIN, "removed again and again", str(folder))


def give_back(lock: WriterLock | None, path: Path) -> None:
    """Release the lock, and remove the folder of segments if there are none."""
    if lock is not None:
        lock.release()
    with contextlib.suppress(OSError):
        part_folder(path).rmdir()


def birth() -> dict[str, Any]:
    """Return the root attributes that every recording has."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "created_at": now,
        "creation_library": "gradscope",
        "creation_library_version": __version__,
    }


def inherited(path: Path) -> dict[str, Any]:
    """Return the root attributes of the resumed recording; empty if there is none."""
    attrs: dict[str, Any] = {}
    for segment in list_segments(part_folder(path)):
        attrs |= read_contents(segment.path, groups=()).attrs
    known = set(schema.ROOT_ATTRIBUTES) - {"resume_step"}  # already applied
    return {name: value for name, value in attrs.items() if name in known}


def last_step(path: Path) -> int:
    """Return the last step of the resumed recording; 0 if there is none."""
    for segment in reversed(list_segments(part_folder(path))):
        training = read_contents(segment.path, groups=("training",)).groups.get("training")
        if training is not None and len(training.rows):
            return int(training.rows[-1])
    return 0


def _clear(path: Path, folder: Path, if_exists: str) -> None:
    segments = list_segments(folder)
    if if_exists == "resume" and path.exists():
        read_contents(path, groups=())  # raises for what is no recording, and leaves it there
    if path.exists() or if_exists == "overwrite":
        for segment in segments:  # already merged, or to be dropped
            segment.path.unlink()
    if if_exists == "overwrite":
        path.unlink(missing_ok=True)
    elif path.exists():
        move(path, folder / segment_name(1, 1))
    sync_folder(folder.parent)

"""The folder ``run.h5.part``: names of segments, and atomic publication of files.

A segment is named ``000007.h5``, or ``000001-000008.h5`` if older segments were merged. A segment
within the range of another one was merged into it and no longer counts. Files whose name begins
with a dot are unfinished and are ignored.

Every file is written in this order:

1. write a file with a temporary name (``.000007.h5.tmp``) and close it;
2. fsync the file;
3. rename it to its final name;
4. fsync the folder;
5. only then remove the files that it replaces.

After a power failure, each name therefore refers to a complete file, and each row is in at least
one of them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

from gradscope.errors import RecordingError, UsageError
from gradscope.store.format.safe_file import new_file

PART_SUFFIX = ".part"
LOCK_NAME = "lock"
_NAME = re.compile(r"(\d{6,12})(?:-(\d{6,12}))?\.h5")
_MAX_SEGMENTS = 4096


@dataclass(frozen=True, order=True)
class Segment:
    """One published segment with its first and last flush."""

    first: int
    last: int
    path: Path

    @property
    def span(self) -> int:
        """Number of flushes in the segment."""
        return self.last - self.first + 1


def finished_path(path: str | os.PathLike[str]) -> Path:
    """Return the name of the finished file for that name or for the folder of its segments."""
    path = Path(path)
    if not path.name:
        raise UsageError(f"{str(path)!r} is a folder; give the name of a file, such as run.h5")
    return path.with_name(path.name.removesuffix(PART_SUFFIX))


def part_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder of the segments of a recording."""
    path = finished_path(path)
    return path.with_name(path.name + PART_SUFFIX)


def segment_name(first: int, last: int) -> str:
    """Return the file name of a segment."""
    return f"{first:06d}.h5" if first == last else f"{first:06d}-{last:06d}.h5"


def list_segments(folder: Path) -> list[Segment]:
    """Return the valid segments in order; none if the folder is missing.

    Raises
    ------
    RecordingError
        If two segments overlap, or there are more than gradscope can write.
    """
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(folder):  # noqa: PTH208 - Path.iterdir is three times slower
            match = _NAME.fullmatch(name)
            if match and int(match[1]) <= int(match[2] or match[1]):
                found.append(Segment(int(match[1]), int(match[2] or match[1]), folder / name))
    if len(found) > _MAX_SEGMENTS:
        raise RecordingError(f"{folder} holds {len(found)} segments; that is no recording")
    return _outermost(found, folder)


def _outermost(found: list[Segment], folder: Path) -> list[Segment]:
    kept: list[Segment] = []
    for segment in sorted(found, key=lambda s: (s.first, -s.last)):
        if kept and segment.last <= kept[-1].last:
            continue
        if kept and segment.first <= kept[-1].last:
            raise RecordingError(
                f"segments {kept[-1].path.name} and {segment.path.name} in {folder} overlap; "
                "one of them does not belong there"
            )
        kept.append(segment)
    return kept


def publish(target: Path, write: Callable[[h5py.File], None], *, is_new: bool = False) -> int:
    """Write a file atomically; return its size in bytes.

    Raises
    ------
    FileExistsError
        If there is something at ``target`` that must not be replaced (``is_new``).
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with new_file(temporary) as file:
            write(file)
        return move(temporary, target, is_new=is_new)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def move(source: Path, target: Path, *, is_new: bool = False) -> int:
    """Give a complete file its final name (steps 2 to 4 above); return its size in bytes."""
    descriptor = os.open(source, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if is_new:
        _reserve(source, target)
    source.replace(target)
    if is_new:
        with contextlib.suppress(FileNotFoundError):
            source.unlink()  # of two names of one file, both have stayed
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)
    return size


def _reserve(source: Path, target: Path) -> None:
    """Take a name that nobody has, so that nobody else takes it meanwhile."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: an empty file stands there for a moment
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, on systems that support it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_part(folder: Path) -> None:
    """Remove the files of gradscope from the folder of the segments, and the folder if empty."""
    with contextlib.suppress(OSError):
        # The lock last: the next writer may put its own files there as soon as it is gone.
        for name in sorted(os.listdir(folder), key=lambda name: name == LOCK_NAME):  # noqa: PTH208
            if _NAME.fullmatch(name) or name == LOCK_NAME or name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
        folder.rmdir()
        sync_folder(folder.parent)

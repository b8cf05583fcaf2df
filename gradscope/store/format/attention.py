"""A sign for the writer of a recording that somebody follows it.

A reader that wants new rows soon holds a shared lock (``flock``) on the folder of the segments, and
the writer tries whether it could have the folder alone. The kernel holds the lock: nothing is
written, and the lock ends with its process. On file systems without such locks nobody is seen.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from gradscope.store.format.segments import part_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_FOLLOWED = 64
"""Recordings that one reader follows at a time, a descriptor each."""


class Attention:
    """The recordings that this reader follows while they are being written."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}

    def follow(self, paths: Iterable[Path]) -> None:
        """Follow these recordings, named as finished files, and no others."""
        wanted = dict.fromkeys(map(part_folder, list(paths)[:MAX_FOLLOWED]))
        for folder, descriptor in list(self._held.items()):
            if folder not in wanted or not _is_still(folder, descriptor):
                os.close(self._held.pop(folder))
        for folder in wanted:
            if folder not in self._held and (descriptor := _lock(folder, is_shared=True)) >= 0:
                self._held[folder] = descriptor


def is_followed(folder: Path) -> bool:
    """Whether a reader follows the recording whose segments are in this folder."""
    try:
        descriptor = _lock(folder, is_shared=False)
    except BlockingIOError:
        return True
    if descriptor >= 0:
        os.close(descriptor)
    return False


def _lock(folder: Path, *, is_shared: bool) -> int:
    """Open and lock a folder; -1 where that is not possible, or a reader came too early.

    Raises
    ------
    BlockingIOError
        If the folder is wanted alone, and somebody has it.
    """
    if fcntl is None:
        return -1
    descriptor = -1
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        if isinstance(error, BlockingIOError) and not is_shared:
            raise
        return -1
    return descriptor


def _is_still(folder: Path, descriptor: int) -> bool:
    """Whether the folder of that name is the one that was opened."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    return False

"""Find the recordings below a folder, without leaving it."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gradscope.store.format.segments import LOCK_NAME, PART_SUFFIX, list_segments, part_folder
from gradscope.store.write.lock import STALE_SECONDS, is_held

MAX_DEPTH = 8
MAX_RUNS = 5000
ENVIRONMENT = {"pyvenv.cfg", "conda-meta"}
"""Names in the root of a Python environment, whose packages bring .h5 files of their own."""


@dataclass(frozen=True)
class Found:
    """One recording below the folder.

    ``key`` names it in addresses; ``signature`` changes whenever its files do, or its writer ends.
    """

    key: str
    path: Path
    name: str
    is_open: bool
    signature: tuple[object, ...]
    modified: float

    @property
    def is_alive(self) -> bool:
        """Whether it is being written."""
        return self.is_open and bool(self.signature[-1])

    @property
    def is_blank(self) -> bool:
        """Whether its writer has begun and written nothing yet."""
        return len(self.signature) == 1


def scan(root: Path, only: frozenset[Path] | None = None) -> dict[str, Found]:
    """Return the recordings below a folder by key, in the order of their names.

    Symbolic links are never followed, so that no address leads out of the folder. Hidden folders
    and Python environments are left out.

    Parameters
    ----------
    root : Path
        The folder, resolved.
    only : frozenset of Path, optional
        Finished names of the recordings to show; all by default.
    """
    found = {}
    for path, is_open in sorted(_recordings(root)):
        if only is not None and path not in only:
            continue
        try:
            signature, modified = _sign(path, is_open=is_open)
        except OSError:
            continue  # merged or moved away since; the next look finds it
        if signature:
            relative = os.fspath(path.relative_to(root))
            key = hashlib.blake2b(os.fsencode(relative), digest_size=6).hexdigest()
            name = os.fsencode(relative.removesuffix(".h5")).decode("utf-8", "replace")
            found[key] = Found(key, path, name, is_open, signature, modified)
        if len(found) >= MAX_RUNS:
            break
    return found


def _recordings(folder: Path, depth: int = 0) -> Iterator[tuple[Path, bool]]:
    """Yield finished names, and whether there are only segments."""
    try:
        with os.scandir(folder) as entries:
            known = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return
    if depth and any(entry.name in ENVIRONMENT for entry in known):
        return
    files = {entry.name for entry in known if entry.is_file(follow_symlinks=False)}
    for entry in known:
        if entry.name in files:
            if entry.name.endswith(".h5"):
                yield folder / entry.name, False
        elif not entry.is_dir(follow_symlinks=False):
            continue
        elif entry.name.endswith(".h5" + PART_SUFFIX):
            finished = entry.name.removesuffix(PART_SUFFIX)
            if finished not in files and not (folder / finished).is_symlink():
                yield folder / finished, True
        elif depth < MAX_DEPTH:
            yield from _recordings(folder / entry.name, depth + 1)


def _sign(path: Path, *, is_open: bool) -> tuple[tuple[object, ...], float]:
    """Return what changes with the files, and when they last did; nothing where no run is."""
    pieces = [piece.path for piece in list_segments(part_folder(path))] if is_open else [path]
    states = [piece.lstat() for piece in pieces]
    if not all(stat.S_ISREG(state.st_mode) for state in states):
        return (), 0.0
    if not states:
        modified = part_folder(path).lstat().st_mtime
        return ((True,), modified) if is_alive(path, modified) else ((), 0.0)
    modified = max(state.st_mtime for state in states)
    signature = [(p.name, s.st_mtime_ns, s.st_size) for p, s in zip(pieces, states, strict=True)]
    return (*signature, is_open and is_alive(path, modified)), modified


def is_alive(path: Path, modified: float) -> bool:
    """Whether the writer of an unfinished recording still runs.

    Where the lock may not be asked (a read-only folder), the age of the newest segment decides.
    """
    lock = part_folder(path) / LOCK_NAME
    if os.access(lock, os.W_OK):
        return is_held(lock)
    return lock.exists() and abs(time.time() - modified) < STALE_SECONDS

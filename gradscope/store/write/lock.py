"""Lock for a single writer, released when the writer is killed.

The kernel holds the lock (``fcntl``, which NFS passes on to its server) and releases it when the
process ends for any reason. Forked children, such as data loader workers, do not inherit it. On
file systems without locks, the age of the lock file decides: its writer touches it with every
flush.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STALE_SECONDS = 60.0
"""Age from which a lock that no kernel holds belongs to nobody."""

HELD_HERE = "held by this process"

_BUSY = {errno.EACCES, errno.EAGAIN}
_held: set[Path] = set()


class WriterLock:
    """Exclusive right to write one recording.

    Parameters
    ----------
    path : Path
        File to lock; created if missing.

    Raises
    ------
    BlockingIOError
        If another writer in this or another process holds the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if self.path in _held:
            raise BlockingIOError(errno.EAGAIN, HELD_HERE, str(path))
        self._descriptor = _open_locked(self.path)
        _held.add(self.path)

    def touch(self) -> None:
        """Mark the writer as alive, for file systems without locks."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Remove the file and release the lock; repeated calls do nothing."""
        if self.path in _held and self._descriptor >= 0:
            _held.discard(self.path)
            with contextlib.suppress(OSError):  # it may be the file of the next writer already
                if os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                    self.path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(path: Path) -> bool:
    """Return whether a live writer holds the lock, without disturbing it."""
    if path.resolve() in _held:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try(descriptor) if fcntl else _is_fresh(descriptor)
    except OSError:
        return _is_fresh(descriptor)
    finally:
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    """Open and lock the file; retry if a finishing writer removed it in between."""
    while True:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, path, is_new=is_new)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            if is_new:
                path.unlink(missing_ok=True)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path, *, is_new: bool) -> None:
    try:
        is_busy = fcntl is None or not _try_patiently(descriptor)
    except OSError:  # this file system does not support locks
        is_busy = True
    else:
        if fcntl is not None and is_busy:
            raise BlockingIOError(errno.EAGAIN, "held by another process", str(path))
    if is_busy and not is_new and _is_fresh(descriptor):
        raise BlockingIOError(errno.EAGAIN, "held by another process", str(path))
    os.utime(path)


def _try_patiently(descriptor: int) -> bool:
    """Try for a moment, because a reader in `is_held` holds the lock briefly."""
    for _ in range(20):
        if _try(descriptor):
            return True
        time.sleep(0.01)
    return False


def _try(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def _is_fresh(descriptor: int) -> bool:
    return abs(time.time() - os.fstat(descriptor).st_mtime) < STALE_SECONDS

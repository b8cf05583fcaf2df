"""The end of a process in which a user has interrupted the closing of a recording."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
import weakref
from typing import Protocol

LEAVE_SECONDS = 0.6
"""How long the end of a process waits for a writer whose `close` was interrupted."""


class Closing(Protocol):
    """A writer of rows on a thread."""

    def close(self, status: str) -> None:
        """Write the rows that wait, and end."""

    def is_over(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""


writing: weakref.WeakSet[Closing] = weakref.WeakSet()
"""Writers whose thread runs."""

interrupted: list[Closing] = []
"""Writers whose `close` a Ctrl-C has interrupted."""


@atexit.register
def leave() -> None:
    """End the process at once if such a writer does not end in time.

    The end of the interpreter stops threads wherever they are. One that is stopped within HDF5
    keeps h5py's lock, and the main thread would then wait for it forever while it frees its own
    HDF5 objects. So the process ends here, without that; the rows are in segments, which open and
    can be repaired (rows that are in none are few, and written in time). Further Ctrl-C are
    ignored.
    """
    if not interrupted:
        return
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    deadline = time.monotonic() + LEAVE_SECONDS
    if all(writer.is_over(deadline - time.monotonic()) for writer in interrupted):
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(128 + signal.SIGINT)


@atexit.register
def close_forgotten() -> None:
    """Close what nobody has closed; called before `leave`, which was registered earlier."""
    for writer in [w for w in writing if w not in interrupted]:
        try:
            writer.close("interrupted")
        except KeyboardInterrupt:
            leave()

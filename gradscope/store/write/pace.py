"""How soon rows are written: every few seconds, and sooner while somebody follows the recording."""

from __future__ import annotations

import math
import time
from pathlib import Path

from gradscope.store.format.attention import is_followed

FOLLOWED_SECONDS = 0.5
"""Shortest time between two segments while somebody follows."""

MAX_SHARE = 0.1
"""Largest share of a core that writing segments may then take."""

GATHER_SECONDS = 0.05
"""Rows wait at least so long, since those of all groups are delivered one after another."""

LOOK_SECONDS = 0.2
"""How often a writer with rows to write looks whether somebody follows."""


class Pace:
    """When the rows of one recording are due.

    Parameters
    ----------
    folder : Path
        Folder of the segments.
    seconds : float
        Longest time before rows are written when nobody follows.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._spent = 0.0
        self._written = -math.inf
        self._dirty_since: float | None = None

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits to be written."""
        return self._dirty_since is not None

    def mark(self) -> None:
        """Note that something waits from now on."""
        if self._dirty_since is None:
            self._dirty_since = time.monotonic()

    def written(self, seconds: float) -> None:
        """Note that everything was written, and the CPU time that it took."""
        self._spent, self._dirty_since, self._written = seconds, None, time.monotonic()

    def remaining(self) -> float | None:
        """Return the seconds until writing is due, at most 0 if it is; None if nothing waits."""
        if self._dirty_since is None:
            return None
        now = time.monotonic()
        remaining = self._seconds - (now - self._dirty_since)
        pause = max(FOLLOWED_SECONDS, self._spent / MAX_SHARE)
        is_soon = now >= max(self._written + pause, self._dirty_since + GATHER_SECONDS)
        return 0.0 if remaining > 0 and is_soon and is_followed(self._folder) else remaining

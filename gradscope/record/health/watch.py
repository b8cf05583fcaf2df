"""Health of a recording while it is written: rules on a thread of their own, and who is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.errors import warn
from gradscope.record.guard import describe

if TYPE_CHECKING:
    from gradscope.derived.health.rule import Finding

SECONDS = 5.0
"""Shortest pause between two looks; one that took longer is followed by a longer pause."""
LONGEST_SHARE = 0.02
"""Share of the time that looking may take."""
WINDOW = 300
"""Rows of a running training that its health is judged by."""

OnHealth = Callable[["Finding"], object]


def check_callback(on_health: OnHealth | None) -> None:
    """Raise a TypeError for what cannot be called."""
    if on_health is not None and not callable(on_health):
        raise TypeError(f"`on_health` must be a function of a finding; got {on_health!r}")


class HealthWatch:
    """Apply the health rules to what is on disk, and call somebody for each new finding.

    The training neither waits for it nor sees an exception of it.

    Parameters
    ----------
    path : Path
        The recording.
    on_health : callable of Finding, optional
        Called on the watching thread, once for each rule and severity. What it raises becomes one
        warning. Without it nothing is watched.
    seconds : float
        Pause between two looks.
    """

    def __init__(self, path: Path, on_health: OnHealth | None, *, seconds: float = SECONDS) -> None:
        self._path, self._on_health, self._seconds = path, on_health, seconds
        self._told: set[tuple[str, str]] = set()
        self._has_warned = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gradscope-health", daemon=True)
        if on_health is not None:
            self._thread.start()

    def _run(self) -> None:
        pause = self._seconds
        while not self._is_over.wait(pause):
            begun = time.monotonic()
            self._look(WINDOW)
            pause = max(self._seconds, (time.monotonic() - begun) / LONGEST_SHARE)

    def _look(self, window: int | None) -> None:
        from gradscope.derived.health.check import check_health
        from gradscope.store.read.recording import open_recording

        try:
            with open_recording(self._path) as tree:
                findings = check_health(tree, window=window)
        except Exception:  # nothing written yet, or merged meanwhile: the next look finds it
            return
        for finding in findings:
            key = finding.rule, finding.severity
            if key not in self._told:
                self._told.add(key)
                self._tell(finding)

    def _tell(self, finding: Finding) -> None:
        try:
            if self._on_health is not None:
                self._on_health(finding)
        except Exception as error:
            if not self._has_warned:
                self._has_warned = True
                warn(f"`on_health` failed: {describe(error)}; the training and its recording go on")

    def stop(self) -> None:
        """End the thread."""
        self._is_over.set()

    def close(self, path: Path | None = None) -> None:
        """End the thread, and judge the whole recording once more, which may have moved."""
        self.stop()
        self._path = path or self._path
        if self._on_health is not None and threading.current_thread() is not self._thread:
            self._thread.join()
            self._look(None)
            self._on_health = None  # it may be somebody's method


class StopOn:
    """An ``on_health`` that remembers the first finding of some rules.

    Parameters
    ----------
    rules : collection of str
        Names of rules, or severities. Notes stop nothing.

    Attributes
    ----------
    reason : str
        The finding in one line; empty while there is none.
    """

    def __init__(self, rules: tuple[str, ...]) -> None:
        self._rules = rules
        self.reason = ""

    def __call__(self, finding: Finding) -> None:
        """Take note of a finding."""
        is_meant = finding.rule in self._rules or finding.severity in self._rules
        if is_meant and finding.severity != "note" and not self.reason:
            self.reason = f"{finding.rule}: {finding.message}"


class Stopped(SystemExit):
    """Ends a script because a health rule fired."""

    CODE = 3
    """Exit code of a training that ``gradscope record --stop-on`` ended."""

    def __init__(self) -> None:
        super().__init__(self.CODE)

"""Follow the folder for all clients at once: a few looks a second, and who is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from anyio import to_thread

from gradscope.store.format.attention import Attention
from gradscope.view.catalog import Found, scan
from gradscope.view.rows import read_health, read_row

INTERVAL = 0.3
BATCH_SECONDS = 0.5
"""Clients are told of new rows this often while a large folder is read."""

HEALTH_SECONDS = 10.0
"""Health of a running training is judged no more often than this."""

GROWN_SECONDS = 15.0
"""For so long after it grew, a run is live though nobody holds its lock."""

MAX_STREAMS = 64


class Watcher:
    """The table of runs, kept up to date.

    A client is told only that something changed (a number that grows); a slow or hanging one
    therefore costs no memory.

    Parameters
    ----------
    root : Path
        The folder.
    only : frozenset of Path, optional
        Show these recordings alone.
    """

    def __init__(self, root: Path, only: frozenset[Path] | None = None) -> None:
        self.root = root.resolve()
        self._only = only
        self.found: dict[str, Found] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.revision = 0
        self.is_closed = False
        self._read: dict[str, tuple[object, ...]] = {}
        self._judged: dict[str, tuple[tuple[object, ...], float]] = {}
        self._unheld: dict[str, tuple[object, ...]] = {}
        self._grown: dict[str, list[float]] = {}
        self._waiting: set[asyncio.Event] = set()
        self._attention = Attention()

    async def run(self) -> None:
        """Look again and again until `close`; writers are asked to hurry while clients listen."""
        try:
            while not self.is_closed:
                begun = time.monotonic()
                is_busy = await to_thread.run_sync(self.look)
                self._tell()
                # A folder that takes long to walk is walked less often.
                pause = max(INTERVAL, 3 * (time.monotonic() - begun - BATCH_SECONDS))
                await asyncio.sleep(0.01 if is_busy else pause)
        finally:
            self._attention.follow(())

    def look(self) -> bool:
        """Read what changed, for half a second at most; True where more is waiting."""
        until = time.monotonic() + BATCH_SECONDS
        found = {key: self._revive(run) for key, run in scan(self.root, self._only).items()}
        if gone := [key for key in self.rows if key not in found]:
            for known in (self.rows, self._read, self._judged, self._unheld, self._grown):
                for key in gone:
                    known.pop(key, None)
            self.revision += 1
        self.found = found
        live = [run for run in found.values() if run.is_alive] if self._waiting else []
        self._attention.follow(run.path for run in sorted(live, key=lambda run: -run.modified))
        changed = [run for run in found.values() if self._read.get(run.key) != run.signature]
        changed.sort(key=lambda run: -run.modified)
        for i, run in enumerate(changed):
            self._update(run, read_row(run))
            self._read[run.key] = run.signature
            if time.monotonic() > until and i + 1 < len(changed):
                return True
        for run in filter(self._needs_health, found.values()):
            if time.monotonic() > until:
                return True
            self._update(run, {"health": read_health(run)})
            self._judged[run.key] = (run.signature, time.monotonic())
        return False

    def _revive(self, run: Found) -> Found:
        """Take a run for live that has grown twice though nobody held its lock.

        So do copies that are refreshed, and runs of other machines on file systems without locks.
        """
        if not run.is_open or run.is_alive:
            self._unheld.pop(run.key, None)
            return run
        times = self._grown.setdefault(run.key, [])
        if self._unheld.get(run.key, run.signature) != run.signature:
            times.append(time.monotonic())
        self._unheld[run.key] = run.signature
        is_growing = len(times) > 1 and time.monotonic() - times[-1] < GROWN_SECONDS
        alive = (*run.signature[:-1], True)
        return dataclasses.replace(run, signature=alive) if is_growing else run

    def _needs_health(self, run: Found) -> bool:
        if run.is_blank or self.rows[run.key]["status"] == "unreadable":
            return False
        signature, when = self._judged.get(run.key, ((), -HEALTH_SECONDS))
        is_due = not run.is_open or time.monotonic() - when >= HEALTH_SECONDS
        return signature != run.signature and is_due

    def _update(self, run: Found, values: dict[str, Any]) -> None:
        self.revision += 1
        known = self.rows.get(run.key, {"health": None})
        self.rows[run.key] = known | values | {"revision": self.revision}

    def _tell(self) -> None:
        for event in self._waiting:
            event.set()

    def close(self) -> None:
        """End the loop and every stream."""
        self.is_closed = True
        self._tell()

    @property
    def is_full(self) -> bool:
        """Whether as many clients listen as may."""
        return len(self._waiting) >= MAX_STREAMS

    @contextlib.contextmanager
    def _listening(self) -> Any:
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            yield event
        finally:
            self._waiting.discard(event)

    async def stream(self) -> AsyncGenerator[str, None]:
        """Yield server-sent events: the revision, when it has grown; nothing where it is full."""
        if self.is_full:  # many that asked at the same time
            return
        told = -1
        with self._listening() as event:
            while not self.is_closed:
                news, told = told != self.revision, self.revision
                yield f"data: {told}\n\n" if news else ": alive\n\n"
                deadline = time.monotonic() + 15
                while told == self.revision and not self.is_closed and time.monotonic() < deadline:
                    event.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(event.wait(), 15)

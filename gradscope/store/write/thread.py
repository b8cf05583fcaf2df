"""Writer thread: takes rows from a bounded queue, writes segments and merges old ones.

The training loop does not use HDF5.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gradscope.store.format import layout
from gradscope.store.format.layout import Axis
from gradscope.store.format.segments import (
    Segment,
    list_segments,
    part_folder,
    publish,
    remove_part,
    segment_name,
)
from gradscope.store.write.blocks import Block, combine, n_bytes, repeat_last
from gradscope.store.write.leaving import interrupted, writing
from gradscope.store.write.lock import WriterLock
from gradscope.store.write.merge import merge_files
from gradscope.store.write.pace import LOOK_SECONDS, Pace

FAN_IN = 8
"""Segments of one size that are merged into one: n flushes leave at most 7 log8(n) + 1 files."""
MAX_MERGE_BYTES = 256 * 1024 * 1024
"""Segments larger than this together stay apart until the end, so that no merge takes long."""
ALIVE_SECONDS = 15.0  # how often a writer without work shows that it is alive
RETRY_FLUSHES = 64
"""Flushes to wait after a merge failed."""
AT_THE_END = {"is_complete": 1, "resume_step": None}  # root attributes of the finished file
WHOLE_BYTES = 4 * 1024 * 1024
"""Rows that are packed at the end without a segment before: well within `leaving.LEAVE_SECONDS`."""
QUEUE_BYTES = 128 * 1024 * 1024
"""Rows that may wait while the disk is slow; then `append` waits too."""


class Worker:
    """Writes one recording on a thread; see `gradscope.store.write.writer.RecordingWriter`."""

    def __init__(
        self,
        path: Path,
        lock: WriterLock,
        *,
        attrs: dict[str, Any],
        flush_seconds: float,
        flush_rows: int,
    ) -> None:
        self.path = path
        self.pid = os.getpid()
        self.error: Exception | None = None
        self.saved: Path | None = None
        self.bytes_written = 0
        self._lock = lock
        self._pace = Pace(part_folder(path), flush_seconds)
        self._flush_rows = flush_rows
        self._queue: deque[tuple[Any, ...]] = deque()
        self._queued_bytes = self._n_rows = 0
        self._changed = threading.Condition()
        self._attrs = dict(attrs)
        self._axes: dict[str, Axis] = {}
        self._blocks: dict[str, list[dict[str, np.ndarray]]] = {}
        self._last: dict[str, dict[str, np.ndarray]] = {}
        self._pace.mark()  # the attributes
        self._segments = list_segments(part_folder(path))
        self._next_merge = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gradscope-writer", daemon=True)
        self._thread.start()
        writing.add(self)

    # Called by the training process

    def put(self, kind: str, *payload: Any) -> None:
        """Queue a message; blocks only while too many bytes are queued."""
        if os.getpid() != self.pid:
            return  # a forked child has no writer thread
        size = sum(a.nbytes for a in payload[1].values()) if kind == "rows" else 0
        with self._changed:
            while size and self._queued_bytes > QUEUE_BYTES and self._thread.is_alive():
                self._changed.wait(0.1)
            self._queue.append((kind, size, *payload))
            self._queued_bytes += size
            self._changed.notify_all()

    def flush(self, *, wait: bool) -> None:
        """Request a flush and optionally wait for it."""
        done = threading.Event()
        self.put("flush", done)
        while wait and os.getpid() == self.pid and self._thread.is_alive():
            if done.wait(0.1):
                break

    def close(self, status: str) -> None:
        """Write queued rows, merge, and end the thread."""
        if os.getpid() == self.pid:
            try:
                self.put("close", status)
                self._is_over.wait()  # joining, when interrupted, may take the thread for ended
            except KeyboardInterrupt:
                self.put("close", status)  # it may have come before the first
                interrupted.append(self)
                raise

    def is_over(self, seconds: float) -> bool:
        """Whether the thread ends within so many seconds."""
        return self._is_over.wait(max(seconds, 0.0))

    # The thread

    def _run(self) -> None:
        try:
            self._work()
            self._lock.release()
        except Exception as error:  # the file is whole
            self.error = self.error or error
        finally:
            self._is_over.set()  # else `close` would wait for ever

    def _work(self) -> None:
        handlers: dict[str, Callable[..., None]] = {
            "rows": self._on_rows,
            "axis": self._on_axis,
            "attrs": self._on_attrs,
            "flush": self._on_flush,
            "close": self._on_close,
        }
        is_open = True
        while is_open:
            kind: str | None = None
            payload: list[Any] = []
            try:
                message = self._next()
                if message is None:
                    self._flush()
                    continue
                kind, _, *payload = message
                is_open = kind != "close"
                handlers[kind](*payload)
            except Exception as error:  # a thread that died would keep a training waiting
                self.error = self.error or error
                if kind == "flush":
                    payload[0].set()
                elif kind == "close":  # once more: rows that are only in memory would be lost
                    with contextlib.suppress(Exception):
                        self._on_close(*payload)

    def _next(self) -> tuple[Any, ...] | None:
        """Wait for a message; return None when a flush is due."""
        with self._changed:
            while not self._queue:
                remaining = self._pace.remaining()
                if remaining is not None and remaining <= 0:
                    return None
                wait = ALIVE_SECONDS if remaining is None else min(remaining, LOOK_SECONDS)
                if not self._changed.wait(wait):
                    self._lock.touch()
            message = self._queue.popleft()
            self._queued_bytes -= message[1]
            self._changed.notify_all()
            return message

    def _on_rows(self, group: str, block: dict[str, np.ndarray]) -> None:
        if self.error is not None:
            return
        self._blocks.setdefault(group, []).append(block)
        self._n_rows += len(block[layout.row_dim(group)])
        self._pace.mark()
        if self._n_rows >= self._flush_rows or (self._pace.remaining() or 0.0) <= 0:
            self._flush()

    def _on_axis(self, dim: str, axis: Axis) -> None:
        if self._n_rows:
            self._flush()
        self._axes[dim] = axis

    def _on_attrs(self, attrs: dict[str, Any]) -> None:
        self._attrs |= attrs
        self._pace.mark()

    def _on_flush(self, done: threading.Event) -> None:
        self._flush()
        done.set()

    def _flush(self) -> None:
        """Write queued rows as one segment, then merge old segments if there are many."""
        begun = time.thread_time()
        if self.error is None and self._pace.is_dirty:
            try:
                self._write_segment()
            except Exception as error:
                self.error = error
        self._blocks, self._n_rows = {}, 0
        self._pace.written(time.thread_time() - begun)
        self._lock.touch()
        if self.error is None and self._segments and self._segments[-1].last >= self._next_merge:
            try:
                self._merge_old()
            except Exception:  # the rows are safe in their segments
                self._next_merge = self._segments[-1].last + RETRY_FLUSHES

    def _write_segment(self) -> None:
        number = self._segments[-1].last + 1 if self._segments else 1
        groups = {}
        for group, blocks in self._blocks.items():
            if group in self._last:
                blocks = repeat_last(group, self._last[group], blocks)
            groups[group] = combine(group, blocks)
            self._last[group] = {name: a[-1:].copy() for name, a in groups[group].items()}
        path = part_folder(self.path) / segment_name(number, number)
        self.bytes_written += publish(path, lambda file: self._write_groups(file, groups))
        self._segments.append(Segment(number, number, path))
        self._blocks = {}
        self._attrs.pop("resume_step", None)

    def _write_groups(
        self, file: h5py.File, groups: dict[str, Block], *, is_last: bool = False
    ) -> None:
        layout.write_attributes(file, self._attrs | (AT_THE_END if is_last else {}))
        for name, arrays in groups.items():
            layout.write_group(file, name, arrays, self._axes, is_packed=is_last)

    def _merge_old(self) -> None:
        while True:
            tail = self._segments[-FAN_IN:]
            is_even = len({segment.span for segment in tail}) == 1
            if len(tail) < FAN_IN or not is_even:
                return
            if sum(segment.path.stat().st_size for segment in tail) > MAX_MERGE_BYTES:
                return
            path = tail[0].path.with_name(segment_name(tail[0].first, tail[-1].last))
            paths = [segment.path for segment in tail]
            self.bytes_written += merge_files(paths, path, is_packed=False)
            self._segments[-FAN_IN:] = [Segment(tail[0].first, tail[-1].last, path)]
            for segment in tail:
                with contextlib.suppress(OSError):
                    segment.path.unlink()

    def _reason(self) -> str:
        """Say in one line why writing failed."""
        words = " ".join(f"{type(self.error).__name__}: {self.error}".split())
        return f"writing: {words}"[:300]

    def _write_whole(self, target: Path) -> int:
        """Write the finished file: of all segments, or of few rows that no segment holds yet."""
        if self._segments:
            paths = [segment.path for segment in self._segments]
            return merge_files(paths, target, attrs=AT_THE_END, is_new=True)
        groups = {group: combine(group, blocks) for group, blocks in self._blocks.items()}
        return publish(
            target, lambda file: self._write_groups(file, groups, is_last=True), is_new=True
        )

    def _save(self) -> None:
        """Write under the name of the recording, or beside what has appeared there meanwhile."""
        if self.saved is not None:  # closing failed after that
            return
        for number in itertools.count(1):
            stem = self.path.stem if number == 1 else f"{self.path.stem}-{number}"
            target = self.path.with_name(stem + self.path.suffix)
            if target.exists() or (number > 1 and part_folder(target).exists()):
                continue
            with contextlib.suppress(FileExistsError):
                self.bytes_written += self._write_whole(target)
                self.saved = target
                return

    def _on_close(self, status: str) -> None:
        """Make one file of all segments; after a failure too, if it can be done by now."""
        self._attrs["status"] = status
        if self.error is not None:
            self._attrs |= {"status": "failed", "failure": self._reason()}
        try:
            if self._segments or n_bytes(self._blocks) > WHOLE_BYTES:
                self._write_segment()
            self._save()
            remove_part(part_folder(self.path))
        except Exception as error:
            self.error = self.error or error
            self._attrs["failure"] = self._reason()
            with contextlib.suppress(Exception):  # rows that are only in memory, and the reason
                self._write_segment()
        finally:
            self._lock.release()
            with contextlib.suppress(OSError):
                part_folder(self.path).rmdir()

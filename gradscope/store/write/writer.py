"""Writer of recordings: rows are appended from any thread and written on a separate one.

The training thread only copies and queues the rows. A disk failure ends the recording with one
warning, but not the training, and rows written before remain readable.
"""

from __future__ import annotations

import contextlib
import os
import re
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gradscope import schema
from gradscope.errors import RecordingError, unknown, warn
from gradscope.store.format import layout
from gradscope.store.format.layout import Axis
from gradscope.store.format.segments import finished_path, list_segments, part_folder
from gradscope.store.write.acquire import birth, claim, give_back, inherited, last_step
from gradscope.store.write.thread import Worker

_BEGUN = {"status": "running", "is_complete": 0, "schema_version": schema.SCHEMA_VERSION}
_LOGGABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.+@-]*")


class RecordingWriter:
    """Writes a recording incrementally.

    Parameters
    ----------
    path : path-like
        The finished file, ``run.h5``. Until `close`, rows are in segments in ``run.h5.part/``.
    attrs : mapping, optional
        Root attributes (`gradscope.schema.ROOT_ATTRIBUTES`).
    if_exists : {"error", "overwrite", "resume"}
        What to do if a finished or unfinished recording exists at ``path``.
    resume_step : int, optional
        With ``"resume"``: rows beyond this step are dropped. By default all are kept.
    flush_seconds : float, default 5.0
        Longest time in seconds before rows are written to disk.
    flush_rows : int, default 4096
        Number of queued rows that triggers a write earlier.

    Attributes
    ----------
    path : Path
    bytes_written : int
        Bytes of all files written so far.
    error : OSError or RecordingError or None
        The first failure to write. Later rows are dropped.

    Raises
    ------
    RecordingExistsError
        If a recording exists at ``path``, or another process is writing it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        attrs: Mapping[str, Any] | None = None,
        *,
        if_exists: str = "error",
        resume_step: int | None = None,
        flush_seconds: float = 5.0,
        flush_rows: int = 4096,
    ) -> None:
        choices = ("error", "overwrite", "resume")
        if if_exists not in choices:
            raise ValueError(unknown("value of if_exists", str(if_exists), choices))
        if flush_seconds <= 0 or flush_rows < 1:
            raise ValueError(
                "`flush_seconds` must be positive and `flush_rows` at least 1; "
                f"got {flush_seconds} and {flush_rows}"
            )
        self.path = finished_path(path).absolute()  # a program may change its folder
        given = dict(attrs or {})
        schema.check_attributes(given)
        lock = claim(finished_path(path), if_exists)
        self._axes: dict[str, Axis] = {}
        self._last_rows: dict[str, int] = {}
        self._has_warned = False
        try:
            before = self.inherited = inherited(self.path)
            """Root attributes of the recording that is resumed."""
            self.last_step = last_step(self.path)
            """Last step of the recording that is resumed; 0 for a new one."""
            kept = {"created_at": before["created_at"]} if "created_at" in before else {}
            self._worker = Worker(
                self.path,
                lock,
                attrs={**birth(), **before, **given, **kept, **_BEGUN},
                flush_seconds=flush_seconds,
                flush_rows=flush_rows,
            )
        except BaseException:
            give_back(lock, self.path)
            raise
        # Collection of garbage may run on the writer thread or under h5py's lock: no waiting there.
        self._finalizer = weakref.finalize(self, self._worker.put, "close", "interrupted")
        self._finalizer.atexit = False  # `leaving.close_forgotten` waits
        if before and resume_step is not None:
            self.set_attrs(resume_step=int(resume_step))
            self.flush(wait=True)

    @property
    def error(self) -> Exception | None:
        """The first failure to write, or None."""
        return self._worker.error

    @property
    def saved(self) -> Path | None:
        """The finished file; None before `close`, and if it could not be written."""
        return self._worker.saved

    @property
    def bytes_written(self) -> int:
        """Bytes of all files written so far, merges included."""
        return self._worker.bytes_written

    def set_axis(self, dim: str, columns: Mapping[str, Any]) -> None:
        """Set the labels of a dimension for the following rows.

        Parameters
        ----------
        dim : str
            ``param``, ``layer`` or any other dimension but the row's.
        columns : mapping of name to sequence
            The index, named as the dimension, and coordinates along it. A later call may add
            labels; they are missing in earlier rows.

        Raises
        ------
        ValueError
            If a name is unknown, lengths differ or labels repeat.
        """
        if dim not in schema.INDEXES or dim in ("step", "event"):
            raise ValueError(unknown("dimension", dim, set(schema.INDEXES) - {"step", "event"}))
        known = layout.coordinates_of(dim)
        if dim not in columns:
            raise ValueError(f"`columns` must hold {dim!r}, the labels; got {sorted(columns)}")
        arrays = {}
        for name, values in columns.items():
            if name not in known:
                raise ValueError(unknown(f"coordinate of {dim}", name, known))
            arrays[name] = np.array(list(values), dtype=layout.numpy_dtype(known[name]))
            if arrays[name].shape != (len(columns[dim]),):
                raise ValueError(
                    f"coordinate {name!r} has shape {arrays[name].shape} "
                    f"for {len(columns[dim])} labels"
                )
        if len(set(arrays[dim].tolist())) != len(arrays[dim]):
            raise ValueError(f"labels of {dim!r} repeat")
        self._axes[dim] = Axis(dim, arrays)
        self._worker.put("axis", dim, self._axes[dim])

    def append(self, group: str, rows: Mapping[str, Any]) -> None:
        """Append rows to a group; blocks only if the disk is far behind.

        Parameters
        ----------
        group : str
            ``gradients``, ``training``, …; ``spikes/gradients`` for the flight recorder.
        rows : mapping of name to array
            The row axis (``step``, int64, increasing; ``event`` for spikes) and variables with rows
            as the first axis. Variables not given are missing in these rows.

        Raises
        ------
        ValueError
            If a name is unknown, a shape does not fit or steps do not increase.
        """
        row_dim = layout.row_dim(group)
        if row_dim not in rows:
            raise ValueError(f"rows of {group!r} need {row_dim!r}; got {sorted(rows)}")
        steps = np.array(rows[row_dim], dtype=np.int64, ndmin=1)
        if not len(steps):
            return
        self._check_order(group, steps)
        block = {row_dim: steps}
        for name, values in rows.items():
            if name != row_dim:
                block[name] = self._as_stored(group, name, values, len(steps))
        self._last_rows[group] = int(steps[-1])
        self._worker.put("rows", group, block)
        self._warn_once()

    def _check_order(self, group: str, steps: np.ndarray) -> None:
        """Check that steps increase; in open groups, a step may repeat and is combined."""
        least = 0 if layout.declared_group(group).is_open else 1
        last = self._last_rows.get(group)
        if steps.ndim != 1 or (np.diff(steps) < least).any():
            raise ValueError(f"steps of {group!r} do not increase: {steps[:8]}")
        if last is not None and steps[0] < last + least:
            raise ValueError(f"step {steps[0]} of {group!r} comes after step {last}")

    def _as_stored(self, group: str, name: str, values: Any, n_rows: int) -> np.ndarray:
        """Return a copy in the dtype of the file after checking the shape."""
        if not _LOGGABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a variable; use letters, digits and _.+@-")
        if name in schema.INDEXES:
            raise ValueError(f"{name!r} is the name of a dimension; choose another")
        variable = layout.declared(group, name)
        dtype = layout.numpy_dtype(variable)
        array = np.asarray(values)
        if dtype.kind != "f" and array.dtype.kind == "f":
            array = np.where(np.isnan(array), -1, array)
        with np.errstate(over="ignore"):  # a diverging run may exceed float32
            array = np.array(array, dtype=dtype, ndmin=1)
        expected = [n_rows]
        for i, dim in enumerate(variable.dims[1:], start=1):
            if dim not in self._axes and array.ndim > i:
                self.set_axis(dim, {dim: layout.default_labels(dim, array.shape[i])})
            expected.append(len(self._axes[dim]) if dim in self._axes else -1)
        if array.shape != tuple(expected):
            raise ValueError(
                f"{group}/{name} must have shape {tuple(expected)}, dims {variable.dims}; "
                f"got {array.shape}"
            )
        return array

    def set_attrs(self, **attrs: Any) -> None:
        """Change root attributes; they are written with the next flush."""
        schema.check_attributes(attrs)
        self._worker.put("attrs", dict(attrs))

    def flush(self, wait: bool = False) -> None:
        """Write appended rows to disk and optionally wait until this is done."""
        self._worker.flush(wait=wait)
        self._warn_once()

    def close(self, status: str = "finished") -> None:
        """Merge all segments into ``path``; repeated calls do nothing.

        A file that somebody else has put there meanwhile stays; ``path`` is then another one.

        Parameters
        ----------
        status : {"finished", "interrupted", "diverged", "failed"}
        """
        if status not in schema.STATUSES:
            raise ValueError(unknown("status", status, schema.STATUSES))
        if self._finalizer.alive and os.getpid() == self._worker.pid:
            try:
                self._worker.close(status)
            except KeyboardInterrupt:  # the process ends now; what was written can be read
                self._finalizer.detach()
                raise
            self._finalizer.detach()
            self._warn_once()
            if self.saved not in (None, self.path):
                warn(
                    f"{self.path} has appeared while the recording was written and is not its "
                    f"own: it is left as it is, and the recording is saved as {self.saved}",
                    stacklevel=4,
                )
                self.path = self.saved

    def discard(self) -> None:
        """Close as if nothing had begun: a new recording leaves no file."""
        status = str(self.inherited.get("status", "failed"))
        self.close("interrupted" if status == "running" else status)
        if not self.inherited and self.saved is not None:
            self.saved.unlink()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.close("interrupted" if issubclass(kind, KeyboardInterrupt) else "failed")

    def _warn_once(self) -> None:
        if self.error is not None and not self._has_warned:
            self._has_warned = True
            folder = part_folder(self.path)
            kept = f"What was written is in {folder}; `gradscope repair` makes a file of it"
            with contextlib.suppress(OSError, RecordingError):
                if self.saved is not None:  # it failed after the last row
                    kept = f"The recording is whole, in {self.saved}"
                elif not list_segments(folder):
                    kept = "No rows of it could be written"
            warn(
                f"recording to {self.path} stopped ({self.error}); training goes on. {kept}",
                stacklevel=4,
            )

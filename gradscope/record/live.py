"""What a notebook asks of a recorder that runs, its data, a picture, a fresh start; and its end."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch

from gradscope import schema
from gradscope.errors import unknown, warn
from gradscope.record.distributed.ranks import Ranks
from gradscope.record.ending import abandon, finish
from gradscope.record.events import StepEvents
from gradscope.record.guard import Guard
from gradscope.record.health.watch import HealthWatch
from gradscope.record.model.identity import WeakIdentityMap
from gradscope.store.format.segments import part_folder
from gradscope.store.write.writer import RecordingWriter

if TYPE_CHECKING:
    import xarray

Method = TypeVar("Method", bound=Callable[..., Any])

_attached: WeakIdentityMap[LiveRecording] = WeakIdentityMap()
"""The recorder of each optimizer."""


def register(recorder: LiveRecording, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Remember which recorder watches some optimizers, to close it when the process ends."""
    _close_at_exit(os.getpid())
    for optimizer in optimizers:
        _attached[optimizer] = recorder


def is_attached(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a recorder watches an optimizer."""
    return optimizer in _attached


def detach_others(optimizers: Iterable[torch.optim.Optimizer], replaced: Path | None) -> None:
    """Close the recorders whose place another takes: a notebook's cell was run again.

    They watch one of these optimizers, or write the recording that is to be replaced.
    """
    ends = {other: "optimizer" for one in optimizers if (other := _attached.get(one)) is not None}
    if replaced is not None:
        for _, other in _attached.items():
            if other._ranks.is_alone and other.path.resolve() == replaced.resolve():
                ends.setdefault(other, "file")
    for other, thing in ends.items():
        other.close("interrupted")
        other.end(f"another recorder was attached to its {thing}")


def forget(recorder: LiveRecording) -> None:
    """Forget a recorder that is closed."""
    for optimizer in [o for o, other in _attached.items() if other is recorder]:
        _attached.pop(optimizer)


@functools.cache
def _close_at_exit(process: int) -> None:
    """Close what is open when a process ends, in that process alone."""

    def close() -> None:
        error = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
        recorders = {recorder for _, recorder in _attached.items()}
        for recorder in recorders if os.getpid() == process else ():
            if recorder._ranks.is_alone:  # other ranks may have left already
                recorder.close(status_after(error))

    atexit.register(close)


def status_after(error: BaseException | None) -> str | None:
    """Return the status of a training that ends with an exception; None for a regular end.

    ``sys.exit()`` and a consumer that leaves a generator early end it regularly.
    """
    if error is None or isinstance(error, GeneratorExit):
        return None
    if isinstance(error, SystemExit) and not error.code:
        return None
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def until_closed(method: Method) -> Method:
    """Let a method of a recorder do nothing once its recording has ended.

    A training must not stop because of a call that comes too late: one warning says so.
    """

    @functools.wraps(method)
    def wrapper(self: LiveRecording, *args: Any, **kwargs: Any) -> Any:
        if not self._is_closed:
            return method(self, *args, **kwargs)
        if self._guard.reason is None and not self._has_told:
            self._has_told = True
            warn(
                f"`{method.__name__}` came after the end of the recording {self.path}: it does "
                "nothing, nor do later calls"
            )
        return None

    return wrapper  # type: ignore[return-value]


class LiveRecording(ABC):
    """A recording that is being written, as a context manager that can be read and drawn."""

    _events: StepEvents
    _writer: RecordingWriter
    _watch: HealthWatch
    _guard: Guard
    _is_closed: bool
    _has_told = False
    _ranks: Ranks

    @property
    def path(self) -> Path:
        """The recording; another than was asked for if somebody else has put a file there."""
        return self._writer.path

    @property
    def _files(self) -> Path:
        """Where its own rows are, whatever somebody else has put at the path."""
        return self._writer.saved or part_folder(self._writer.path)

    def end(self, reason: str) -> None:
        """Ignore, with one warning, what the program still tells a recorder that was closed."""
        self._guard.reason = reason
        warn(f"the recording {self.path} ends here: {reason}", stacklevel=5)

    @abstractmethod
    def flush(self) -> None:
        """Bring everything recorded so far to disk."""

    def close(self, status: str | None = None) -> None:
        """Finish the recording; further calls do nothing, nor do later `log` and `describe`.

        Parameters
        ----------
        status : str, optional
            One of `schema.STATUSES`; by default "diverged" after a loss that is not finite, else
            "finished".
        """
        if self._is_closed:
            self._events.detach()  # a hook that failed may have left some of them
            return
        if status is not None and status not in schema.STATUSES:
            raise ValueError(unknown("status", status, schema.STATUSES))
        self._guard.run(self._finish, status)

    def _finish(self, status: str | None) -> None:
        finish(self._events, self._writer, status, self._leave)
        self._watch.close(self._files)

    def _stop(self, reason: str) -> None:
        """End the recording because of an error of our own: rows stay, the training goes on."""
        self._leave()
        abandon(self._events, self._writer, reason)

    def _give_up(self) -> None:
        """Leave nothing behind of a recorder that could not be attached."""
        self._is_closed = True
        forget(self)
        self._events.detach()
        self._events.release()
        self._ranks.close()
        begun = vars(self)
        if "_watch" in begun:
            self._watch.stop()
        if "_writer" in begun:
            self._writer.discard()

    def _leave(self) -> None:
        self._is_closed = True
        self._watch.stop()
        forget(self)

    @property
    def data(self) -> xarray.DataTree:
        """The recording so far, as `gradscope.open_recording` gives it."""
        from gradscope.store.read.recording import open_recording

        self.flush()
        return open_recording(self._files)

    def plot(self, **options: Any) -> Any:
        """Draw the heatmap of what is recorded so far; options of `plots.figure.View`."""
        from gradscope.plots.figure import View, plot_recording

        return plot_recording(self.data, View(**options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: types.TracebackType | None,
    ) -> None:
        self.close(status_after(error))

"""No exception of the recorder's own reaches a training.

Every function that torch, a scaler or a user's script calls for us goes through one `Guard`. After
the first exception the guard lets nothing of ours run any more; what was recorded until then is
kept. What a handler of a signal raises is the program's own and goes through; `signals_later` keeps
it from cutting rows that are being handed over.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

from gradscope.errors import UsageError, is_of_signal, warn

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")


SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
"""Signals whose handlers are known to raise, in training scripts."""

_is_waiting = False


class Guard:
    """Runs the recorder's own code so that its exceptions stop the recording, not the training.

    Parameters
    ----------
    stop : callable of str
        Called once, after the first exception, with its reason in one line; must close the
        recording. What it raises is swallowed too.

    Attributes
    ----------
    reason : str or None
        Why recording stopped.
    """

    def __init__(self, stop: Callable[[str], None]) -> None:
        self._stop = stop
        self.reason: str | None = None

    def wrap(self, function: Function) -> Function:
        """Return the function, guarded; it returns None once anything has failed."""

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if self.reason is not None:
                return None
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if is_of_signal(error):
                    raise
                self.fail(error)
                return None

        return guarded  # type: ignore[return-value]

    def run(self, function: Callable[..., Result], *args: Any) -> Result | None:
        """Call a function for a method of the recorder; a mistake of the user's is raised."""
        if self.reason is not None:
            return None
        try:
            return function(*args)
        except UsageError:
            raise
        except Exception as error:
            if is_of_signal(error):
                raise
            self.fail(error)
            return None

    def fail(self, error: Exception) -> None:
        """Stop recording because of an exception, with one warning."""
        if self.reason is not None:
            return
        self.reason = describe(error)
        try:
            self._stop(self.reason)
        except Exception as second:
            self.reason = f"{self.reason}; then, while closing, {describe(second)}"
        message = (
            f"gradscope stopped recording: {self.reason}. The training goes on untouched, and the "
            "rows until here are kept; please report this"
        )
        warn(message, stacklevel=4)


@contextlib.contextmanager
def signals_later() -> Iterator[None]:
    """Let the program's handlers of signals, as Ctrl-C's, run after the block and not within it.

    A second signal is not held back, so that a block that waits for another process can be left.
    Outside the main thread, where Python runs no handler, and within another such block this does
    nothing.
    """
    global _is_waiting
    if _is_waiting or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            handlers[number](number, frame)

    _is_waiting = True
    try:
        for number in SIGNALS:
            if callable(handler := signal.getsignal(number)):
                handlers[number] = handler
                signal.signal(number, remember)
        yield
    finally:
        _is_waiting = False
        for number, handler in handlers.items():
            if signal.getsignal(number) is remember:
                signal.signal(number, handler)
        if came:
            handlers[came[0]](came[0], sys._getframe())


def contained(function: Function, tell: Callable[[str], None]) -> Function:
    """Return the function so that its first exception is told and ends its work."""
    has_failed = False

    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        nonlocal has_failed
        if not has_failed:
            try:
                return function(*args)
            except Exception as error:
                if is_of_signal(error):
                    raise
                has_failed = True
                tell(describe(error))
        return None

    return inner  # type: ignore[return-value]


def describe(error: BaseException) -> str:
    """Name an exception in one line, with the place in our code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"

"""Ctrl-C and the processes of a local cluster: they never see it, and end with their starter."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop

END_SECONDS = 5.0
"""Longest time to end the workers after Ctrl-C."""


@contextlib.contextmanager
def deaf_loop() -> Iterator[IOLoop]:
    """Run an event loop in a thread that never sees Ctrl-C, nor do the processes it starts."""
    from distributed.utils import LoopRunner

    runner = LoopRunner()
    resource_tracker.ensure_running()  # later, it would lift the mask of the thread that starts it
    if hasattr(signal, "pthread_sigmask"):  # threads and processes inherit the mask
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            runner.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    else:
        runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """End this process and all that it has started on Ctrl-C, with exit code 130.

    A cluster that is half up cannot be closed. Finished recordings are complete, and what was
    written of the others can be read.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("psutil")  # not for the first time in a handler
    before = signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(*_: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what dask's threads say of lost processes
    end_children()
    os._exit(130)


def end_children() -> None:
    """End the processes below this one until there are none: nannies replace workers that end."""
    import psutil

    me, deadline = psutil.Process(), time.monotonic() + END_SECONDS
    while (children := me.children(recursive=True)) and time.monotonic() < deadline:
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=0.5)

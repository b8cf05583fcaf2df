"""Errors raised at a chosen call of the recorder's or the writer's own functions."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
import threading
import traceback

import gradscope.record
import gradscope.store.write

N_FAULTS = int(os.environ.get("GRADSCOPE_FAULTS", "24"))
SEED = os.environ.get("GRADSCOPE_FAULT_SEED", "1")
LEFT_OUT = ("gradscope.record.guard", "gradscope.record.recorder", "gradscope.record.autolog")
"""Where exceptions are caught, what the user calls, and what no `Recorder` needs."""
OUTSIDE = {
    # What torch or the user calls, whose whole body is a guarded call.
    "ForwardHooks._before",
    "ForwardHooks._after",
    "_see_any",
    "_watched_clip_by_norm",
    "_watched_clip_by_value",
    "_listening",
    "_as_list",
    "is_being_compiled",
    "is_exporting",
    "Worker._run",
    "Worker._work",
    "LiveRecording.close",
    "LiveRecording.path",
    "LiveRecording._files",
    "LiveRecording._stop",
    # What tells a user of a mistake in a call of `Recorder.log`.
    "LoggedNames.part",
    "LoggedNames.of",
    "LoggedNames._find",
    "stored_name",
    "_check_number",
}


class Fault(Exception):
    """An error that no code of ours expects."""


class Calls:
    """Counts the calls of the recorder's functions; raises at the one whose number is ``at``.

    Attributes
    ----------
    callers : set of str
        Names of the functions that were under way when it raised.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin(None)
        self.is_on = False

    def begin(self, at):
        self.at, self.names, self.callers, self.is_on = at, [], set(), True

    def see(self, name):
        if not self.is_on:
            return
        with self._lock:
            self.names.append(name)
            is_it = len(self.names) == self.at
        if is_it:
            self.callers = {frame.f_code.co_name for frame, _ in traceback.walk_stack(None)}
            raise Fault(name)


def modules():
    for room in (gradscope.record, gradscope.store.write):
        for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
            if not found.name.startswith(LEFT_OUT) and ".measure.c" not in found.name:
                yield importlib.import_module(found.name)


def counted_calls():
    """Wrap every function of the recorder and the writer; yields their `Calls`."""
    calls = Calls()
    undo = []

    def put(owner, name, value):
        undo.append((owner, name, inspect.getattr_static(owner, name)))
        setattr(owner, name, value)

    def counted(function):
        label = f"{function.__module__.removeprefix('gradscope.')}:{function.__qualname__}"

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            calls.see(label)
            return function(*args, **kwargs)

        return wrapper

    rooms = list(modules())
    for module in rooms:
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", "") != module.__name__ or name in OUTSIDE:
                continue
            if inspect.isclass(value):
                for key, method in list(vars(value).items()):
                    is_own = not key.startswith("__") or key in ("__init__", "__call__")
                    if f"{name}.{key}" in OUTSIDE or not is_own:
                        continue
                    if inspect.isfunction(method):
                        put(value, key, counted(method))
                    elif isinstance(method, property):
                        put(value, key, property(counted(method.fget)))
            elif inspect.isfunction(value) and not inspect.isgeneratorfunction(value):
                wrapped = counted(value)
                for other in rooms:
                    for key, found in list(vars(other).items()):
                        if found is value:
                            put(other, key, wrapped)
    yield calls
    for owner, name, value in reversed(undo):
        setattr(owner, name, value)


LIGHT = {"record": ("gradients", "updates", "second_moments", "activations")}
FULL = {
    "record": "full",
    "second_moment": "own",
    "custom": {"size": lambda p, g, s: p.norm()},
}


def places(names, draw):
    """Numbers of calls to fail at: one of each function, then any."""
    numbered = list(enumerate(names, start=1))
    draw.shuffle(numbered)
    first_of = list({name: at for at, name in numbered}.values())
    draw.shuffle(first_of)
    chosen = set(first_of)
    return first_of + [at for at, _ in numbered if at not in chosen]

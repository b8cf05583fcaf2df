"""Errors raised inside the recorder, anywhere: the training must not notice.

Every function of the recorder and of the writer is wrapped to count its calls. One training says
how many calls there are; in others the call of a chosen number raises. ``GRADSCOPE_FAULTS=1000``
tries so many places; the suite tries a few.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
import random
import threading
import warnings

import pytest
import torch
from torch import nn

import gradscope
import gradscope.record
import gradscope.store.write
from gradscope.record.recorder import Recorder

N_FAULTS = int(os.environ.get("GRADSCOPE_FAULTS", "24"))
N_STEPS = 4
LEFT_OUT = ("gradscope.record.guard", "gradscope.record.recorder", "gradscope.record.autolog")
"""Where exceptions are caught, what the user calls, and what no `Recorder` needs."""
OUTSIDE = {
    # What torch or the user calls, whose whole body is a guarded call.
    "Activations._before_forward",
    "Activations._after_forward",
    "_watched_clip_by_norm",
    "_watched_clip_by_value",
    "_tell",
    "_as_list",
    "is_being_compiled",
    "is_exporting",
    "Worker._run",
    # What tells a user of a mistake in a call of `Recorder.log`.
    "LoggedNames.part",
    "LoggedNames.of",
    "stored_name",
    "_check_number",
}


class Fault(Exception):
    """An error that no code of ours expects."""


class Calls:
    """Counts the calls of the recorder's functions; raises at the one whose number is ``at``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin(None)
        self.is_on = False

    def begin(self, at):
        self.at, self.names, self.is_on = at, [], True

    def see(self, name):
        if not self.is_on:
            return
        with self._lock:
            self.names.append(name)
            is_it = len(self.names) == self.at
        if is_it:
            raise Fault(name)


def modules():
    for room in (gradscope.record, gradscope.store.write):
        for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
            if not found.name.startswith(LEFT_OUT) and ".measure.c" not in found.name:
                yield importlib.import_module(found.name)


@pytest.fixture(scope="module")
def calls():
    """Wrap every function of the recorder and the writer."""
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


def train(recorder=None, on_ready=lambda: None):
    """A training with most that can be seen: accumulation, clipping, a scaler, two optimizers."""
    torch.manual_seed(3)
    body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    head = nn.Linear(3, 2)
    model = nn.ModuleDict({"body": body, "head": head})
    optimizers = {
        "body": torch.optim.Adam(body.parameters(), lr=0.05),
        "head": torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9),
    }
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    losses = []
    watch = recorder(model, optimizers, scaler) if recorder else None
    on_ready()
    for step in range(N_STEPS):
        for _ in range(2):
            loss = head(body(torch.randn(6, 4))).square().mean() / 2
            scaler.scale(loss).backward()
        if step == 2:  # the scaler skips the head's step
            head.weight.grad[0, 0] = torch.inf
        for optimizer in optimizers.values():
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers.values():
            scaler.step(optimizer)
        scaler.update()
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        if watch is not None:
            watch.log(loss=loss.detach() * 2, val_loss=1.0)
        losses.append(float(loss.detach()))
    if watch is not None:
        watch.close()
    return losses, [p.detach().clone() for p in model.parameters()], watch


LIGHT = {"record": ("gradients", "updates", "second_moments", "activations")}
FULL = {
    "record": "full",
    "second_moment": "own",
    "custom": {"size": lambda p, g, s: p.norm()},
}


def recorded(path, calls, at, options):
    """Train with a recorder, which fails at a call if one is chosen."""

    def make(model, optimizers, scaler):
        return Recorder({"m": model}, optimizers, path, grad_scaler=scaler, **options)

    try:
        return train(make, lambda: calls.begin(at))
    finally:
        calls.is_on = False


def places(names, draw):
    """Numbers of calls to fail at: one of each function, then any."""
    numbered = list(enumerate(names, start=1))
    draw.shuffle(numbered)
    first_of = list({name: at for at, name in numbered}.values())
    draw.shuffle(first_of)
    chosen = set(first_of)
    return first_of + [at for at, _ in numbered if at not in chosen]


def judge(path, place, caught):
    """Say what is wrong with the recording of a training in which something failed."""
    said = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    try:
        tree = gradscope.open_recording(path)
        attrs = tree.attrs
    except Exception as error:
        return f"{place}: does not open: {type(error).__name__}: {error}"
    if len(said) != 1:
        return f"{place}: {len(said)} warnings: {[text[:90] for text in said]}"
    n_rows = tree["training"].sizes["step"] if "training" in tree.children else 0
    is_whole = attrs["is_complete"] and n_rows == N_STEPS
    late = ("store.write", "record.health")
    if place.startswith(late) and is_whole and attrs["status"] == "finished":
        return None  # it failed after the file was complete: nothing is lost
    if "Fault" not in attrs.get("failure", ""):
        return f"{place}: no reason is given; status {attrs['status']}"
    # Of a training that ended, only the last segments were not merged; any other has failed.
    if attrs["status"] != "failed" and not place.startswith("store.write"):
        return f"{place}: status {attrs['status']}"
    return None


def test_no_error_of_ours_reaches_a_training(tmp_path, calls):
    losses, weights, _ = train()
    draw = random.Random(os.environ.get("GRADSCOPE_FAULT_SEED", "1"))
    queue = []
    for options in (LIGHT, FULL):
        recorded(tmp_path / f"{len(queue)}-whole.h5", calls, None, options)
        names = list(calls.names)
        queue.append([(at, names[at - 1], options) for at in places(names, draw)])
    assert len({name for _, name, _ in queue[1]}) > 150, "too little of the recorder is seen"
    chosen = [(queue[i % 4 == 3]).pop(0) for i in range(N_FAULTS) if queue[i % 4 == 3]]
    wrong = []
    for at, name, options in chosen:
        path, place = tmp_path / f"{at}.h5", f"{name} ({at})"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found, after, _ = recorded(path, calls, at, options)
            except Exception as error:
                wrong.append(f"{place}: {type(error).__name__} {error} reached the training")
                continue
        if found != losses or not all(map(torch.equal, weights, after)):
            wrong.append(f"{place}: the training differs")
        elif len(calls.names) >= at:  # the writer's thread varies a little
            wrong.append(judge(path, place, caught))
        path.unlink(missing_ok=True)
    wrong = [text for text in wrong if text]
    assert not wrong, f"{len(wrong)} of {len(chosen)}:\n" + "\n".join(wrong[:60])

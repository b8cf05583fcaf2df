"""Errors raised inside the recorder, anywhere: the training must not notice.

Every function of the recorder and of the writer is wrapped to count its calls. One training says
how many calls there are; in others the call of a chosen number raises. ``GRADSCOPE_FAULTS=1000``
tries so many places; the suite tries a few.
"""

from __future__ import annotations

import random
import shutil
import warnings

import torch
from torch import nn

import gradscope
from gradscope.record.recorder import Recorder
from tests.record.faults.injecting import FULL, LIGHT, N_FAULTS, SEED, places

N_STEPS = 4


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


def recorded(path, calls, at, options):
    """Train with a recorder, which fails at a call if one is chosen."""

    def make(model, optimizers, scaler):
        return Recorder({"m": model}, optimizers, path, grad_scaler=scaler, **options)

    try:
        return train(make, lambda: calls.begin(at))
    finally:
        calls.is_on = False


def judge(path, place, callers, caught):
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
    is_late = place.startswith(("store.write", "record.health"))
    is_late |= "release" in callers  # it was letting go of the model
    if is_late and is_whole and attrs["status"] == "finished":
        return None  # it failed after the file was complete: nothing is lost
    if "Fault" not in attrs.get("failure", ""):
        return f"{place}: no reason is given; status {attrs['status']}"
    # Of a training that ended, only the last segments were not merged; any other has failed.
    if attrs["status"] != "failed" and not place.startswith("store.write"):
        return f"{place}: status {attrs['status']}"
    return None


def test_no_error_of_ours_reaches_a_training(tmp_path, calls):
    losses, weights, _ = train()
    draw = random.Random(SEED)
    queue = []
    for options in (LIGHT, FULL):
        recorded(tmp_path / f"{len(queue)}-whole.h5", calls, None, options)
        names = list(calls.names)
        queue.append([(at, names[at - 1], options) for at in places(names, draw)])
    assert len({name for _, name, _ in queue[1]}) > 150, "too little of the recorder is seen"
    chosen = [(queue[i % 4 == 3]).pop(0) for i in range(N_FAULTS) if queue[i % 4 == 3]]
    wrong = []
    for number, (at, name, options) in enumerate(chosen):
        # A folder each: a fault while segments are joined leaves them beside the path.
        folder, place = tmp_path / str(number), f"{name} ({at})"
        folder.mkdir()
        path = folder / "run.h5"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found, after, _ = recorded(path, calls, at, options)
            except Exception as error:
                wrong.append(f"{place}: {type(error).__name__} {error} reached the training")
                continue
        if found != losses or not all(map(torch.equal, weights, after)):
            wrong.append(f"{place}: the training differs")
        elif len(calls.names) >= at:  # threads vary a little: it may have been another function
            wrong.append(judge(path, f"{calls.names[at - 1]} ({at})", calls.callers, caught))
        shutil.rmtree(folder)
    wrong = [text for text in wrong if text]
    assert not wrong, f"{len(wrong)} of {len(chosen)}:\n" + "\n".join(wrong[:60])

"""Memory stays flat in every kind of loop. ``GRADSCOPE_MEMORY_STEPS=100000`` for a long run."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

import gradscope

N_STEPS = int(os.environ.get("GRADSCOPE_MEMORY_STEPS", "400"))
MAX_BLOCKS, MAX_BYTES = 200, 20_000_000
"""Growth that is noise: 250 steps that each left an object behind would exceed the first."""


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def plain():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(recorder):
        optimizer.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recorder.log(loss=loss)

    return model, optimizer, step


def several():
    model = net()
    optimizers = {str(i): torch.optim.SGD(model[i].parameters(), lr=1e-3) for i in (0, 2)}

    def step(recorder):
        model(X).square().mean().backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()

    return model, optimizers, step


def accumulation():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(recorder):
        for _ in range(3):
            (model(X).square().mean() / 3).backward()
        model(X)  # a pass that nobody uses
        optimizer.step()
        optimizer.zero_grad()

    return model, optimizer, step


def closure():
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1e-3, max_iter=2, history_size=2)

    def evaluate():
        optimizer.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        return loss

    return model, optimizer, lambda recorder: optimizer.step(evaluate)


def gan():
    g, d = nn.Linear(3, 3), net()
    optimizers = {
        name: torch.optim.Adam(m.parameters(), lr=1e-4) for name, m in (("g", g), ("d", d))
    }

    def step(recorder):
        optimizers["d"].zero_grad()
        (d(X).square().mean() + (1 - d(g(X).detach())).square().mean()).backward()
        optimizers["d"].step()
        optimizers["g"].zero_grad()
        d(g(X)).square().mean().backward()
        optimizers["g"].step()

    return {"g": g, "d": d}, optimizers, step


def attacks():
    """Backward calls whose gradients are thrown away before each step."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(recorder):
        x = X.clone().requires_grad_()
        model(x).square().mean().backward()
        optimizer.zero_grad()
        model((x + x.grad.sign()).detach()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return model, optimizer, step


NO_GARBAGE = """
import pathlib, sys
from tests.record.loops.test_memory import LOOPS, leave_nothing

for make in LOOPS:
    leave_nothing(make, pathlib.Path(sys.argv[1]) / f"{make.__name__}.h5")
"""
LOOPS = [plain, several, accumulation, closure, gan, attacks]


@pytest.mark.parametrize("make", LOOPS)
def test_memory_is_flat(tmp_path, make):
    torch.manual_seed(0)
    model, optimizers, step = make()
    sizes = []

    def measure(recorder):
        recorder.flush()
        gc.collect()
        sizes.append((sys.getallocatedblocks(), psutil.Process().memory_info().rss))

    with gradscope.Recorder(model, optimizers, tmp_path / "run.h5") as recorder:
        for k in range(N_STEPS):
            if k == N_STEPS // 4 + 50:
                measure(recorder)
            step(recorder)
        measure(recorder)
    (first_blocks, first_bytes), (last_blocks, last_bytes) = sizes
    assert last_blocks - first_blocks < MAX_BLOCKS, f"{last_blocks - first_blocks:,} blocks more"
    assert last_bytes - first_bytes < MAX_BYTES, f"{last_bytes - first_bytes:,} bytes more"


def test_nothing_waits_for_the_garbage_collector(tmp_path):
    """Large trainings switch it off: steps leave no cycle, and what has ended holds no model.

    In a process of its own, without what Lightning sets: with it torch's own Adam opens NVML's
    library at each step, which leaves a class.
    """
    root = Path(__file__).parents[3]
    words = [sys.executable, "-c", NO_GARBAGE, str(tmp_path)]
    env = {k: v for k, v in os.environ.items() if k != "PYTORCH_NVML_BASED_CUDA_CHECK"}
    result = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def leave_nothing(make, path):
    """Record a loop with the garbage collector off."""
    model, optimizers, step = make()
    refs = [weakref.ref(thing) for thing in [*values_of(model), *values_of(optimizers)]]
    gc.disable()
    try:
        with gradscope.Recorder(model, optimizers, path, record="full") as recorder:
            for _ in range(5):
                step(recorder)
            recorder.flush()
            gc.collect()
            found = []
            for _ in range(4):  # what comes once, as an import does, is in one of them
                for _ in range(10):
                    step(recorder)
                found.append(gc.collect())
            assert min(found) == 0, (found, garbage_of(step, recorder))
            n_steps, memory = recorder.step, recorder.cost.memory
        del model, optimizers, step
        assert [ref() for ref in refs if ref() is not None] == []
    finally:
        gc.enable()
    assert (recorder.step, recorder.cost.memory) == (n_steps, memory)
    assert recorder.state_dict()["step"] == n_steps and recorder.first_nonfinite is None


def garbage_of(step, recorder):
    """Say of what types the objects are that a step leaves to the garbage collector."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        step(recorder)
        gc.collect()
        return Counter(f"{type(thing).__name__} {repr(thing)[:60]}" for thing in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def values_of(things):
    return list(things.values()) if isinstance(things, dict) else [things]

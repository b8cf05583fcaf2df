"""Ctrl-C again and again while a recording closes: the process ends, and the file opens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from gradscope.store.read.recording import open_recording
from gradscope.store.write import leaving

N_MOMENTS = int(os.environ.get("GRADSCOPE_INTERRUPTS", "4"))

PROGRAM = """
import sys
import numpy as np
from gradscope.store.write.writer import RecordingWriter

writer = RecordingWriter(sys.argv[1], flush_seconds=0.01)
values = np.random.default_rng(0).normal(size=(200, 500))
names = [f"p{i}" for i in range(500)]
writer.set_axis("param", {"param": names})
try:
    for step in range(1, 1_000_000):
        if step == 40:
            print("ready", flush=True)
        steps = np.arange(200) + 200 * step
        writer.append("gradients", {"step": steps, "grad_norm": np.abs(values).astype("f4")})
finally:
    writer.close("interrupted")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("seed", range(N_MOMENTS))
def test_three_interrupts_at_random_moments_end_the_process(tmp_path, seed):
    path, chance = tmp_path / "run.h5", random.Random(seed)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout.readline() == "ready\n"
        for pause in (chance.uniform(0, 0.3), chance.uniform(0, 0.05), chance.uniform(0, 0.2)):
            time.sleep(pause)
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)  # a hang, on however slow a machine
    finally:
        process.kill()
        process.communicate()
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT), errors
    assert open_recording(path)["gradients"].sizes["step"] >= 200


def test_the_end_of_a_process_closes_forgotten_writers_and_does_not_wait_for_interrupted_ones(
    monkeypatch,
):
    closed = []
    writers = [
        SimpleNamespace(close=lambda status, i=i: closed.append((i, status))) for i in (0, 1)
    ]
    monkeypatch.setattr(leaving, "writing", writers)
    monkeypatch.setattr(leaving, "interrupted", writers[1:])
    leaving.close_forgotten()
    assert closed == [(0, "interrupted")]

"""Ctrl-C in a process that has started others."""

import signal
import subprocess
import sys

import pytest

psutil = pytest.importorskip("psutil")

PROGRAM = """
import signal, subprocess, sys, time
from gradscope.experiments.sweep.workers import leaving_at_once

def start(seconds):
    code = f"import subprocess, sys, time; subprocess.Popen(['sleep', '{seconds}']); time.sleep(60)"
    return subprocess.Popen([sys.executable, "-c", code])

with leaving_at_once():
    children = [start(60), start(60)]
    while sum(len(__import__("psutil").Process(c.pid).children()) for c in children) < 2:
        time.sleep(0.01)
    print(*(c.pid for c in children), flush=True)
    try:
        time.sleep(60)
    finally:
        print("closing a cluster that is half up")
"""


def test_ctrl_c_ends_every_process_at_once_and_says_nothing():
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        family = [*children, *(p for child in children for p in child.children())]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")
    assert len(family) == 4 and not psutil.wait_procs(family, timeout=5)[1]


def test_a_process_is_interrupted_as_before_afterwards():
    from gradscope.experiments.sweep.workers import leaving_at_once

    before = signal.getsignal(signal.SIGINT)
    with leaving_at_once():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before

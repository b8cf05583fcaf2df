"""Ctrl-C at any moment of closing or handing over rows: it is raised, and no row is lost."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

import gradscope
from gradscope.record.guard import SIGNALS, signals_later
from gradscope.record.recorder import Recorder
from tests.record.loops.training_loops import mlp

N_STEPS = 6
N_MOMENTS = int(os.environ.get("GRADSCOPE_INTERRUPTS", "12"))
OURS = str(Path(gradscope.__file__).parent)


def train(recorder, model, optimizer):
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        loss = model(torch.randn(5, 6)).square().mean()
        loss.backward()
        optimizer.step()
        recorder.log(loss=loss)


def recording(path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    recorder = Recorder(model, optimizer, path)
    train(recorder, model, optimizer)
    return recorder


def call_interrupted(function, at):
    """Call a function with a Ctrl-C at its n-th call of ours; return how many there were."""
    n_calls = 0

    def count(frame, event, _):
        nonlocal n_calls
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            n_calls += 1
            if n_calls == at:
                signal.raise_signal(signal.SIGINT)

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return n_calls


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's handler, which is not there in a process that a shell began in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def n_calls_of_close(tmp_path_factory):
    recorder = recording(tmp_path_factory.mktemp("whole") / "run.h5")
    return call_interrupted(recorder.close, at=0)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("moment", range(N_MOMENTS))
def test_ctrl_c_while_a_recorder_closes_loses_no_row(tmp_path, n_calls_of_close, moment):
    recorder = recording(tmp_path / "run.h5")
    at = 1 + round(moment * (n_calls_of_close - 2) / (N_MOMENTS - 1))
    with pytest.raises(KeyboardInterrupt):
        call_interrupted(recorder.close, at)
    recorder.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert recorder._writer._worker.is_over(60)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    for group in ("training", "gradients", "updates"):
        assert tree[group]["step"].values.tolist() == list(range(1, N_STEPS + 1))
    assert tree["gradients"]["grad_norm"].notnull().all()


@pytest.fixture
def handled():
    """Numbers of the signals that a program's handler was called for."""
    numbers = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_a_handler_runs_after_the_block_and_is_there_again(handled):
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with signals_later():
        with signals_later():
            signal.raise_signal(signal.SIGTERM)
        assert handled == []
    assert handled == [signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def test_a_second_signal_is_not_held_back(handled):
    with pytest.raises(KeyboardInterrupt), signals_later():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the block went on")
    assert handled == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_the_block_sets_stays(handled):
    other = []
    with signals_later():
        before = signal.signal(signal.SIGTERM, lambda number, _: other.append(number))
    signal.raise_signal(signal.SIGTERM)
    assert (handled, other) == ([], [signal.SIGTERM]) and before not in (None, signal.SIG_DFL)


def test_a_handler_that_gives_its_signal_back_is_not_left_to_the_system(handled):
    def once(number, _):
        handled.append(number)
        signal.signal(number, signal.SIG_DFL)  # the next one ends the process

    signal.signal(signal.SIGTERM, once)
    with signals_later():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert handled == [signal.SIGTERM] * 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

"""Alerts: each finding is told once, beside the training, whatever the callback does."""

from __future__ import annotations

import threading
import time

import pytest
import torch

import gradscope
from gradscope.derived.health.rule import Finding
from gradscope.record.health.watch import HealthWatch, StopOn
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import synthetic_columns


def finding(rule="diverged loss", severity="error"):
    return Finding(rule=rule, severity=severity, message="it happened")


def write(path, *, is_sick):
    columns, params, layers = synthetic_columns(30, 5, seed=3)
    columns["gradients"]["grad_nonfinite"][:] = 7 * is_sick
    writer = RecordingWriter(path, attrs={})
    writer.set_axis("param", params)
    writer.set_axis("layer", layers)
    for group in ("training", "gradients"):
        writer.append(group, columns[group])
    writer.flush(wait=True)
    return writer


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_a_finding_is_told_once_while_the_run_is_written_on_a_thread_of_its_own(tmp_path):
    told = []
    writer = write(tmp_path / "run.h5", is_sick=True)
    watch = HealthWatch(
        tmp_path / "run.h5",
        lambda found: told.append((found.rule, threading.current_thread().name)),
        seconds=0.05,
    )
    wait_for(lambda: told)
    time.sleep(0.3)
    writer.close()
    watch.close()
    assert told.count(("non-finite values", "gradscope-health")) == 1
    assert [rule for rule, _ in told].count("non-finite values") == 1


def test_a_failing_callback_is_one_warning_and_is_called_again(tmp_path):
    calls = []

    def fail(found):
        calls.append(found)
        raise OSError("no network")

    watch = HealthWatch(tmp_path / "none.h5", fail, seconds=60)
    with pytest.warns(RuntimeWarning, match="`on_health` failed: OSError: no network") as caught:
        watch._tell(finding())
        watch._tell(finding("dead ReLU", "warning"))
    watch.close()
    assert len(calls) == 2 and len(caught) == 1


def test_a_callback_that_never_returns_does_not_hold_up_the_training(tmp_path):
    """The loop takes its steps while the callback sleeps."""
    release, called = threading.Event(), threading.Event()

    def hang(found):
        called.set()
        release.wait(30)

    writer = write(tmp_path / "sick.h5", is_sick=True)
    watch = HealthWatch(tmp_path / "sick.h5", hang, seconds=0.01)
    assert called.wait(20)
    writer.append("training", {"step": [31], "loss": [1.0]})
    writer.close()
    release.set()
    watch.close()


def test_a_short_run_is_judged_at_its_end_and_weights_do_not_change(tmp_path):
    def train(**options):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
        path = tmp_path / f"{len(options)}.h5"
        with gradscope.Recorder(model, optimizer, path, **options) as recorder:
            for _ in range(12):
                optimizer.zero_grad()
                loss = model(torch.ones(4, 3)).square().mean()
                loss.backward()
                optimizer.step()
                recorder.log(loss=loss)
        return model.state_dict()

    told = []
    with_, without = train(on_health=told.append), train()
    assert {"non-finite values", "diverged loss"} & {found.rule for found in told}
    for name in with_:
        torch.testing.assert_close(with_[name], without[name], rtol=0, atol=0, equal_nan=True)


def test_stop_on_takes_rules_and_severities_but_no_note():
    alarm = StopOn(("dead ReLU", "error"))
    alarm(finding("stalled loss", "warning"))
    alarm(finding("dead ReLU", "note"))
    before = alarm.reason
    alarm(finding("dead ReLU", "warning"))
    alarm(finding())
    assert (before, alarm.reason) == ("", "dead ReLU: it happened")

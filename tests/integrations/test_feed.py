"""Curves for other tools, sent while recordings are written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gradscope.cli.main import main
from gradscope.integrations.feed import SinkFeed
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import synthetic_columns, write_recording

ROOT = Path(__file__).parents[2]
TINY = ["--width", "0.05", "--limit-train", "64", "--batch-size", "16", "--steps", "3", "--quiet"]


class Sink:
    def __init__(self, path):
        self.path, self.steps, self.is_closed = path, [], False

    def send(self, tree):
        self.steps.append(int(tree["training"]["step"].values[-1]))
        return 1

    def close(self):
        self.is_closed = True


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_a_recording_that_comes_later_is_followed_to_its_end(tmp_path):
    made = []

    def make(path):
        made.append(Sink(path))
        return made[0]

    feed = SinkFeed(lambda: [tmp_path / "run.h5"], [make], seconds=0.02)
    rows = synthetic_columns(6, 3)[0]["training"]
    with RecordingWriter(tmp_path / "run.h5", attrs={}) as writer:
        writer.append("training", {k: v[:2] for k, v in rows.items()})
        writer.flush(wait=True)
        wait_for(lambda: made and made[0].steps)
        writer.append("training", {k: v[2:] for k, v in rows.items()})
    feed.close()
    assert made[0].steps[0] == 2 and made[0].steps[-1] == 6 and made[0].is_closed


def test_a_failing_sink_is_one_warning(tmp_path):
    path = tmp_path / "run.h5"

    def fail(path):
        raise OSError("no network")

    with pytest.warns(RuntimeWarning, match="a sink failed and is left out: OSError") as caught:
        feed = SinkFeed(lambda: [path], [fail], seconds=60)
        write_recording(path, 5, 2)
        feed._send()
        feed._send()
        feed.close()
    assert len(caught) == 1


@pytest.mark.parametrize("call", ["send", "close"])
def test_a_sink_that_does_not_answer_holds_no_program(tmp_path, monkeypatch, call):
    path, answer = tmp_path / "run.h5", threading.Event()
    monkeypatch.setattr("gradscope.integrations.feed.LONGEST_END", 0.1)
    monkeypatch.setattr(Sink, call, lambda *_: answer.wait())
    feed = SinkFeed(lambda: [path], [Sink], seconds=60)
    write_recording(path, 5, 2)
    with pytest.warns(RuntimeWarning, match="has not answered for 0.1 seconds and is left"):
        feed.close()
    answer.set()
    feed._thread.join()


def test_an_older_recording_is_not_sent(tmp_path):
    path, made = write_recording(tmp_path / "run.h5", 5, 2), []

    def make(path):
        made.append(path)
        return Sink(path)

    SinkFeed(lambda: [path], [make], seconds=60).close()
    assert not made


@pytest.mark.filterwarnings("ignore::Warning")
def test_the_flags_of_record(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    wandb = pytest.importorskip("wandb")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()  # what an earlier test has set up would not read these
    words = ["--tensorboard", "tb", "--wandb", "mine", "--name", "first", "-o", "run.h5"]
    assert main(["record", *TINY, *words]) == 0
    events = EventAccumulator("tb/run").Reload()
    assert [point.step for point in events.Scalars("gradscope/loss")] == [1, 2, 3]
    assert list(tmp_path.rglob("*.wandb")) and wandb.run is None


SCRIPT = """
import sys
assert "torch" not in sys.modules  # variables that the script sets for torch still count
import torch
torch.manual_seed(0)
for n_steps in (6, 4):
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(n_steps):
        loss = net(torch.ones(3, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def test_the_flags_send_the_trainings_of_a_script(tmp_path):
    """Two trainings of an unmodified script are a run each, with the numbers of the recordings."""
    pytest.importorskip("tensorboard")
    pytest.importorskip("wandb")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from gradscope.store.read.recording import open_recording

    (tmp_path / "train.py").write_text(SCRIPT)
    words = ["record", "--tensorboard", "tb", "--wandb", "mine", "-o", "run.h5", "train.py"]
    done = subprocess.run(
        [sys.executable, "-m", "gradscope.cli.main", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", "WANDB_SILENT": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout == "", done.stderr
    for name, n_steps in (("run", 6), ("run-2", 4)):
        events = EventAccumulator(str(tmp_path / "tb" / name)).Reload()
        with open_recording(tmp_path / f"{name}.h5") as tree:
            loss = tree["training"]["loss"].values
            norm = tree["gradients"]["grad_norm"].sel(param="0.weight").values
        points = events.Scalars("gradscope/loss")
        assert [point.step for point in points] == list(range(1, n_steps + 1))
        assert [point.value for point in points] == pytest.approx(loss)
        norms = [point.value for point in events.Scalars("gradscope/grad_norm/0.weight")]
        assert norms == pytest.approx(norm)
    assert len(list(tmp_path.rglob("*.wandb"))) == 2


def test_a_package_that_is_missing_is_one_line_before_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("raise SystemExit('the script ran')")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["record", "--tensorboard", "tb", "-o", "run.h5", "train.py"]) == 2
    err = capsys.readouterr().err
    assert "pip install 'gradscope[tensorboard]'" in err and err.count("\n") == 1

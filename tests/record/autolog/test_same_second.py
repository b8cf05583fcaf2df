"""Two runs that begin in the same second get a file each."""

from __future__ import annotations

import datetime

import torch
from torch import nn

import gradscope
from gradscope.record.autolog.options import ScriptOptions
from gradscope.record.autolog.session import Session


class Frozen(datetime.datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


def train(n_steps=2):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(n_steps):
        model(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()
    return model, optimizer


def test_recorders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradscope.record.distributed.writer.datetime.datetime", Frozen)
    pairs = [train(0) for _ in range(3)]
    recorders = [gradscope.Recorder(*pair) for pair in pairs]
    for recorder in recorders:
        recorder.close()
    names = [recorder.path.name for recorder in recorders]
    assert names == [f"Linear-20260102T030405{end}.h5" for end in ("", "-2", "-3")]
    assert sorted(path.name for path in (tmp_path / "runs").glob("*.h5")) == sorted(names)


def test_scripts(tmp_path):
    path = tmp_path / "train-20260102T030405Z.h5"
    model, optimizer = train(0)
    other = gradscope.Recorder(model, optimizer, path)  # of another process, as it were
    session = Session(ScriptOptions(path, is_chosen=False))
    session.start()
    train()
    session.stop()
    other.close()
    assert [item.path.name for item in session.recorded] == ["train-20260102T030405Z-2.h5"]
    assert gradscope.open_recording(session.recorded[0].path)["training"].sizes["step"] == 2


def test_a_path_that_the_user_chose_is_never_another(tmp_path):
    model, optimizer = train(0)
    other = gradscope.Recorder(model, optimizer, tmp_path / "run.h5")
    session = Session(ScriptOptions(tmp_path / "run.h5"))
    session.start()
    train()
    session.stop()
    other.close()
    assert not session.recorded
    assert "RecordingExistsError" in session.why_nothing()
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]

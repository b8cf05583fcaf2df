"""A lock that cannot be given back, as on a network disk that is gone, keeps nobody waiting."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradscope
from gradscope.store.write.writer import RecordingWriter


def test_closing_ends_where_the_lock_cannot_be_released(tmp_path, monkeypatch):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters())
    recorder = gradscope.Recorder(model, optimizer, tmp_path / "run.h5")
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    writer = recorder._writer
    assert isinstance(writer, RecordingWriter)

    def release():
        raise OSError("stale file handle")

    monkeypatch.setattr(writer._worker._lock, "release", release)
    with pytest.warns(RuntimeWarning, match=r"stale file handle.*is whole, in .*run\.h5"):
        recorder.close()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree.attrs["status"] == "finished" and tree["training"].sizes["step"] == 1
    monkeypatch.undo()
    writer._worker._lock.release()

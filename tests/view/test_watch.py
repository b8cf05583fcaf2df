"""Which runs are live: those whose lock is held, and those that grow without one."""

import os

from gradscope.view.watch import Watcher
from tests.helpers import write_recording


def test_what_grows_without_a_lock_is_live_and_killed_once_it_stops(tmp_path, monkeypatch):
    folder = tmp_path / "run.h5.part"
    folder.mkdir()
    (folder / "lock").touch()
    segment = write_recording(tmp_path / "whole.h5", 8, 3, status="running")
    segment = segment.rename(folder / "000001.h5")
    watcher = Watcher(tmp_path)

    def status_after(n_seconds):
        os.utime(segment, (n_seconds, n_seconds))
        watcher.look()
        return next(row["status"] for row in watcher.rows.values())

    assert [status_after(n) for n in (1, 1, 2, 3, 3)] == ["killed"] * 3 + ["live"] * 2
    monkeypatch.setattr("gradscope.view.watch.GROWN_SECONDS", 0.0)
    assert status_after(3) == "killed"

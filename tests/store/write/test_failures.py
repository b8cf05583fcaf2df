"""The disk fails: training goes on, one warning says what happened, what was written stays."""

import errno
import fcntl
import gc
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from gradscope.store.format import contents
from gradscope.store.format.segments import publish
from gradscope.store.read.recording import open_recording
from gradscope.store.write import thread
from gradscope.store.write.writer import RecordingWriter

ROOT = Path(__file__).parents[3]


def append(writer, first, n):
    steps = np.arange(first, first + n)
    writer.append("training", {"step": steps, "loss": steps / 8})


def warned(action):
    """Run an action; return the warnings about the recording."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(w.message) for w in caught if "training goes on" in str(w.message)]


def test_full_disk(tmp_path, monkeypatch):
    writer = RecordingWriter(tmp_path / "run.h5")
    append(writer, 1, 5)
    writer.flush(wait=True)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(thread, "publish", full)

    def go_on():
        for k in range(3):
            append(writer, 6 + 5 * k, 5)
            writer.flush(wait=True)
        writer.close()

    messages = warned(go_on)
    assert len(messages) == 1
    assert "No space left on device" in messages[0]
    assert isinstance(writer.error, OSError)
    np.testing.assert_array_equal(open_recording(writer.path)["training"]["step"], np.arange(1, 6))


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root"
)
def test_a_really_full_disk(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        writer = RecordingWriter(tmp_path / "run.h5")

        def fill():
            for k in range(200):
                steps = 1 + 500 * k + np.arange(500)
                writer.append("training", {"step": steps, "loss": np.sin(steps)})
                writer.flush(wait=True)
            writer.close()

        assert len(warned(fill)) == 1
        tree = open_recording(writer.path)
        rows = tree["training"]["step"].values
        assert len(rows) >= 1000
        np.testing.assert_array_equal(tree["training"]["loss"].values, np.sin(rows))
        assert not list(tmp_path.rglob("*.tmp"))
        tree.close()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_the_disk_fills_during_the_last_merge(tmp_path, monkeypatch):
    writer = RecordingWriter(tmp_path / "run.h5")
    append(writer, 1, 5)
    writer.flush(wait=True)

    def full(*_, **__):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(thread, "merge_files", full)
    assert len(warned(writer.close)) == 1
    assert not writer.path.exists()
    np.testing.assert_array_equal(open_recording(writer.path)["training"]["step"], np.arange(1, 6))


def test_rows_that_no_file_holds_yet_survive_a_failing_end(tmp_path, monkeypatch):
    writer = RecordingWriter(tmp_path / "run.h5")
    append(writer, 1, 5)

    def no_file(target, write, **options):
        if target == writer.path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return publish(target, write, **options)

    monkeypatch.setattr(thread, "publish", no_file)
    assert len(warned(writer.close)) == 1
    assert not writer.path.exists()
    np.testing.assert_array_equal(open_recording(writer.path)["training"]["step"], np.arange(1, 6))


def test_removed_folder(tmp_path):
    folder = tmp_path / "runs"
    writer = RecordingWriter(folder / "run.h5")
    append(writer, 1, 5)
    writer.flush(wait=True)
    shutil.rmtree(folder)

    def go_on():
        append(writer, 6, 5)
        writer.flush(wait=True)
        append(writer, 11, 5)
        writer.close()

    (message,) = warned(go_on)
    assert "No rows of it could be written" in message


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="remounting needs root")
def test_read_only_remount(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        writer = RecordingWriter(tmp_path / "run.h5")
        append(writer, 1, 5)
        writer.flush(wait=True)
        # The lock is open for writing, so a plain remount is refused; the kernel's emergency
        # remount is what a failing disk does. A second, read-only mount is the nearest to it.
        subprocess.run(["mount", "--bind", str(tmp_path), str(tmp_path)], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path)], check=True)

        def go_on():
            append(writer, 6, 5)
            writer.flush(wait=True)
            writer.close()

        messages = warned(go_on)
        assert len(messages) == 1
        assert "Read-only file system" in messages[0]
        tree = open_recording(writer.path)
        np.testing.assert_array_equal(tree["training"]["step"], np.arange(1, 6))
        tree.close()
    finally:
        while subprocess.run(["umount", "-l", str(tmp_path)], capture_output=True).returncode == 0:
            pass


def test_a_file_system_that_refuses_locks(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def opened(path, mode, locking=True):
        if locking:
            raise OSError("Unable to synchronously open file (unable to lock file, errno = 37)")
        return h5py.File(path, mode, locking=False)

    unlockable = SimpleNamespace(File=opened, Group=h5py.Group, Dataset=h5py.Dataset)
    monkeypatch.setattr(fcntl, "lockf", refused)
    monkeypatch.setattr(contents, "h5py", unlockable)
    writer = RecordingWriter(tmp_path / "run.h5")
    for k in range(9):
        append(writer, 1 + 5 * k, 5)
        writer.flush(wait=True)
    np.testing.assert_array_equal(open_recording(writer.path)["training"]["step"], range(1, 46))
    assert warned(writer.close) == []
    np.testing.assert_array_equal(open_recording(writer.path)["training"]["step"], range(1, 46))


def test_a_forgotten_close_still_merges(tmp_path):
    program = (
        "import numpy as np\n"
        "from gradscope.store.write.writer import RecordingWriter\n"
        f"writer = RecordingWriter({str(tmp_path / 'run.h5')!r})\n"
        "writer.append('training', {'step': np.arange(1, 4), 'loss': np.ones(3)})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    tree = open_recording(tmp_path / "run.h5")
    assert tree.attrs["status"] == "interrupted"
    assert tree["training"].sizes["step"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.h5"]


def test_a_forked_child_neither_writes_nor_hangs(tmp_path):
    program = (
        "import numpy as np, os\n"
        "from gradscope.store.write.writer import RecordingWriter\n"
        f"writer = RecordingWriter({str(tmp_path / 'run.h5')!r})\n"
        "writer.append('training', {'step': [1], 'loss': [1.0]})\n"
        "writer.flush(wait=True)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    writer.append('training', {'step': [2], 'loss': [9.0]})\n"
        "    writer.flush(wait=True)\n"
        "    writer.close()\n"
        "    raise SystemExit\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "writer.append('training', {'step': [2], 'loss': [2.0]})\n"
        "writer.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, timeout=60, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(open_recording(tmp_path / "run.h5")["training"]["loss"], [1, 2])


def test_many_rows_are_in_a_segment_before_they_are_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(thread, "WHOLE_BYTES", 5 * 16 - 1)  # five rows of a step and a loss
    writer = RecordingWriter(tmp_path / "run.h5")
    append(writer, 1, 5)
    kept = []

    def killed(paths, *_, **__):
        kept.extend(np.array(open_recording(writer.path)["training"]["step"]))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(thread, "merge_files", killed)
    assert len(warned(writer.close)) == 1
    assert kept == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("place", ["its own thread", "the lock of h5py"])
def test_a_forgotten_writer_is_closed_wherever_garbage_is_collected(tmp_path, monkeypatch, place):
    writer = RecordingWriter(tmp_path / "run.h5")
    vars(writer)["itself"] = writer  # a cycle, which only the collector finds
    append(writer, 1, 5)
    worker, flushed = writer._worker, threading.Event()
    del writer
    if place == "its own thread":
        monkeypatch.setattr(worker, "_flush", gc.collect)
        worker.put("flush", flushed)
    else:
        with h5py._hl.base.phil:
            gc.collect()
    assert worker.is_over(10)
    tree = open_recording(tmp_path / "run.h5")
    assert tree.attrs["status"] == "interrupted"
    np.testing.assert_array_equal(tree["training"]["step"], np.arange(1, 6))

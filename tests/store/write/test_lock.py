import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradscope.errors import RecordingExistsError
from gradscope.store.format.segments import remove_part
from gradscope.store.read.recording import open_recording
from gradscope.store.write import acquire, lock
from gradscope.store.write.lock import STALE_SECONDS, WriterLock, is_held
from gradscope.store.write.writer import RecordingWriter

ROOT = Path(__file__).parents[3]


def start_writer(path, if_exists="error"):
    program = (
        "import sys\n"
        "from gradscope.store.write.writer import RecordingWriter\n"
        f"writer = RecordingWriter({str(path)!r}, if_exists={if_exists!r})\n"
        "writer.flush(wait=True)\n"
        "print('writing', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.parametrize("if_exists", ["overwrite", "resume"])
def test_a_second_writer_gets_a_clear_error_and_a_killed_one_leaves_no_lock(tmp_path, if_exists):
    path = tmp_path / "run.h5"
    with start_writer(path) as process:
        assert is_held(tmp_path / "run.h5.part" / "lock")
        with pytest.raises(RecordingExistsError, match="being written by another process"):
            RecordingWriter(path, if_exists=if_exists)
        process.kill()
    assert not is_held(tmp_path / "run.h5.part" / "lock")
    RecordingWriter(path, if_exists=if_exists).close()
    assert path.exists()


def test_a_second_writer_in_the_same_process(tmp_path):
    writer = RecordingWriter(tmp_path / "run.h5")
    with pytest.raises(RecordingExistsError, match="being written"):
        RecordingWriter(tmp_path / "run.h5", if_exists="resume")
    assert is_held(tmp_path / "run.h5.part" / "lock")
    writer.close()


def test_where_locks_are_refused_the_age_of_the_file_decides(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refused)
    path = tmp_path / "lock"
    first = WriterLock(path)
    assert is_held(path)
    lock._held.clear()  # as another process sees it
    assert is_held(path)
    with pytest.raises(BlockingIOError, match="another process"):
        WriterLock(path)
    old = time.time() - 2 * STALE_SECONDS
    os.utime(path, (old, old))
    assert not is_held(path)
    second = WriterLock(path)
    assert is_held(path)
    second.release()
    assert not path.exists()
    first.release()


def test_asking_does_not_disturb_a_starting_writer(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    program = (
        "import sys\nfrom pathlib import Path\nfrom gradscope.store.write.lock import is_held\n"
        "print('asking', flush=True)\n"
        f"for _ in range(20000): is_held(Path({str(path)!r}))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == "asking\n"
        for _ in range(200):
            WriterLock(path).release()
            path.touch()
        process.kill()


def test_a_writer_that_ends_leaves_the_lock_of_the_next_one(tmp_path):
    path = tmp_path / "lock"
    ending = WriterLock(path)
    path.unlink()  # as `remove_part` does
    path.write_text("the next one's")
    ending.release()
    assert path.read_text() == "the next one's"


def test_a_folder_that_is_removed_while_it_is_claimed_is_made_again(tmp_path, monkeypatch):
    def removed_once(path):
        monkeypatch.undo()
        path.parent.rmdir()
        return WriterLock(path)

    monkeypatch.setattr(acquire, "WriterLock", removed_once)
    with RecordingWriter(tmp_path / "run.h5") as writer:
        writer.append("training", {"step": [1], "loss": [0.5]})
    assert writer.path.exists()


def test_the_lock_is_the_last_file_to_go(tmp_path, monkeypatch):
    for name in ("000001.h5", "lock", "000002.h5", ".000003.h5.tmp"):
        (tmp_path / name).touch()
    unlink, gone = Path.unlink, []

    def see(path):
        gone.append(path.name)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", see)
    remove_part(tmp_path)
    assert gone[-1] == "lock"
    assert not tmp_path.exists()


def test_what_ended_while_its_lock_was_awaited_is_not_touched(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    ending = RecordingWriter(path)
    ending.append("training", {"step": [1], "loss": [0.5]})

    def after_its_end(lock_path):
        ending.close()
        return WriterLock(lock_path)

    monkeypatch.setattr(acquire, "WriterLock", after_its_end)
    with pytest.raises(RecordingExistsError, match="stands at"):
        RecordingWriter(path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]
    assert open_recording(path)["training"]["loss"].values.tolist() == [0.5]


def test_a_recording_that_is_resumed_by_another_process_meanwhile_is_waited_for_or_named(
    tmp_path, monkeypatch
):
    path = tmp_path / "run.h5"
    with RecordingWriter(path) as writer:
        writer.append("training", {"step": [1], "loss": [0.5]})
    process = []

    def resumed_before(folder):
        process.append(start_writer(path, if_exists="resume"))
        return WriterLock(folder)

    monkeypatch.setattr(acquire, "WriterLock", resumed_before)
    with pytest.raises(RecordingExistsError, match="being written by another process"):
        RecordingWriter(path, if_exists="resume")
    process[0].communicate("")
    assert open_recording(path)["training"]["loss"].values.tolist() == [0.5]

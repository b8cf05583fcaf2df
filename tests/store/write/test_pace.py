"""Rows are written every five seconds, and within one while somebody follows the recording."""

from __future__ import annotations

import time

import pytest

from gradscope.store.format.attention import MAX_FOLLOWED, Attention, is_followed
from gradscope.store.write.pace import FOLLOWED_SECONDS, GATHER_SECONDS, Pace
from gradscope.store.write.writer import RecordingWriter

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def attention():
    found = Attention()
    yield found
    found.follow(())


def test_a_folder_is_followed_until_its_reader_leaves_it(tmp_path, attention):
    part = tmp_path / "run.h5.part"
    part.mkdir()
    before = part.stat()
    assert not is_followed(part)
    attention.follow([tmp_path / "run.h5", tmp_path / "nowhere.h5"])
    other = Attention()
    other.follow([tmp_path / "run.h5"])
    assert is_followed(part)
    attention.follow(())
    assert is_followed(part)  # by the other
    other.follow(())
    assert not is_followed(part)
    assert (before.st_mtime_ns, list(part.iterdir())) == (part.stat().st_mtime_ns, [])


def test_a_folder_that_was_made_again_is_followed_again(tmp_path, attention):
    part = tmp_path / "run.h5.part"
    part.mkdir()
    attention.follow([tmp_path / "run.h5"])
    part.rename(tmp_path / "old")
    part.mkdir()
    attention.follow([tmp_path / "run.h5"])
    assert is_followed(part) and not is_followed(tmp_path / "old")


def test_a_reader_holds_few_descriptors(tmp_path, attention):
    names = [tmp_path / f"{i}.h5" for i in range(MAX_FOLLOWED + 9)]
    for name in names:
        name.with_name(name.name + ".part").mkdir()
    attention.follow(names)
    followed = [is_followed(name.with_name(name.name + ".part")) for name in names]
    assert followed == [True] * MAX_FOLLOWED + [False] * 9


def test_a_dear_recording_is_written_less_often(tmp_path, attention, monkeypatch):
    """A tenth of the time at most: 0.2 s of writing are followed by a pause of 2 s."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    (tmp_path / "run.h5.part").mkdir()
    when = Pace(tmp_path / "run.h5.part", 5.0)
    assert when.remaining() is None
    when.mark()
    now[0] += FOLLOWED_SECONDS + 0.01
    assert when.remaining() == pytest.approx(4.99 - FOLLOWED_SECONDS)  # nobody follows
    attention.follow([tmp_path / "run.h5"])
    assert when.remaining() == 0
    when.written(0.2)
    assert when.remaining() is None
    now[0] += 1
    when.mark()
    now[0] += 0.9
    assert when.remaining() == pytest.approx(4.1)
    now[0] += 0.11
    assert when.remaining() == 0


def test_rows_of_one_delivery_are_written_together(tmp_path, attention, monkeypatch):
    """The last segment is old; the first group of new rows waits for the others all the same."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    (tmp_path / "run.h5.part").mkdir()
    attention.follow([tmp_path / "run.h5"])
    when = Pace(tmp_path / "run.h5.part", 5.0)
    when.mark()
    when.written(0.0)
    now[0] += 3
    when.mark()
    assert when.remaining() == pytest.approx(5.0)
    now[0] += GATHER_SECONDS + 0.01
    assert when.remaining() == 0


def test_a_writer_hurries_for_its_reader(tmp_path, attention, monkeypatch):
    monkeypatch.setattr("gradscope.store.write.pace.FOLLOWED_SECONDS", 0.05)
    monkeypatch.setattr("gradscope.store.write.thread.LOOK_SECONDS", 0.02)
    with RecordingWriter(tmp_path / "run.h5", flush_seconds=60) as writer:
        time.sleep(0.1)
        assert not list((tmp_path / "run.h5.part").glob("*.h5"))
        attention.follow([tmp_path / "run.h5"])
        deadline = time.monotonic() + 5
        while not list((tmp_path / "run.h5.part").glob("*.h5")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        writer.append("training", {"step": [1], "loss": [0.5]})

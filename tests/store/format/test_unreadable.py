"""What is said of files that cannot be read."""

import errno

import h5py
import pytest

from gradscope.errors import RecordingError
from gradscope.store.format.unreadable import explain
from gradscope.store.read.recording import open_recording
from tests.helpers import write_recording


def test_each_kind_of_unreadable_file_has_a_plain_line(tmp_path):
    """In our words: those of HDF5 stand in the cause."""
    good = write_recording(tmp_path / "good.h5", 5, 2).read_bytes()
    broken = bytearray(good)
    broken[48:96] = bytes(48)
    contents = {
        "it is empty": b"",
        "it is not an HDF5 file": b"step,loss\n1,2.3\n",
        "it is cut off": good[:40],
        f"it is cut off after {len(good) - 7:,} of {len(good):,} bytes": good[:-7],
        "it is damaged": broken,
        "it is a Git LFS pointer, not the file itself; run `git lfs pull`": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        ),
    }
    path = tmp_path / "run.h5"
    for reason, data in contents.items():
        path.write_bytes(data)
        with pytest.raises(RecordingError, match=f"^{path} cannot be read: {reason}$") as caught:
            open_recording(path)
        assert caught.value.__cause__ is not None
    with h5py.File(path, "w") as file:
        file["x"] = [1.0]
    with pytest.raises(RecordingError, match="an HDF5 file, but not a recording of gradscope"):
        open_recording(path)
    for number, words in ((errno.EACCES, "you may not read it"), (errno.EIO, "the disk reports")):
        assert words in explain(path, OSError(number, "x"))
    path.unlink()
    path.symlink_to(tmp_path / "nowhere.h5")
    with pytest.raises(FileNotFoundError, match="a link that leads nowhere"):
        open_recording(path)
    (tmp_path / "void.h5.part").mkdir()
    with pytest.raises(FileNotFoundError, match=r"void\.h5\.part holds no rows"):
        open_recording(tmp_path / "void.h5")

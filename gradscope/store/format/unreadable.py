"""Why a file cannot be read, in words for whoever named it; HDF5's own go into the cause."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_TRUNCATED = re.compile(r"truncated file: eof = (\d+),.* stored_eof = (\d+)")
_LFS = b"version https://git-lfs"
_OF_SYSTEM = {
    errno.EACCES: "you may not read it",
    errno.EPERM: "you may not read it",
    errno.EISDIR: "it is a folder",
    errno.ELOOP: "it is a link that leads to itself",
    errno.EMFILE: "this process has too many files open",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network file system has lost it; try again",
}


def explain(path: Path, error: BaseException) -> str:
    """Return one line that names a file and says why HDF5 or the system cannot read it."""
    return f"{path} cannot be read: {_reason(path, error)}"


def _reason(path: Path, error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    number = getattr(error, "errno", None)
    if number in _OF_SYSTEM:
        return _OF_SYSTEM[number]
    try:
        state = path.stat()
    except OSError:  # a recording in segments, or a file that has gone
        return "it is damaged"
    if stat.S_ISDIR(state.st_mode):
        return "it is damaged"  # the folder of the segments
    if not os.access(path, os.R_OK):
        return _OF_SYSTEM[errno.EACCES]
    return _of_content(path, state.st_size, str(error))


def _of_content(path: Path, size: int, words: str) -> str:
    if size == 0:
        return "it is empty"
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        return _OF_SYSTEM.get(error.errno or 0, "the system does not give its bytes")
    if head.startswith(_LFS):
        return "it is a Git LFS pointer, not the file itself; run `git lfs pull`"
    if head.startswith(_SIGNATURE):
        if found := _TRUNCATED.search(words):
            return f"it is cut off after {int(found[1]):,} of {int(found[2]):,} bytes"
        return "it is cut off" if size < 100 else "it is damaged"
    return "it is cut off" if _SIGNATURE.startswith(head) else "it is not an HDF5 file"

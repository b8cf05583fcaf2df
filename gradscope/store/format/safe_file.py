"""File object for HDF5 that reports write failures as ordinary errors.

After a failed write, HDF5 cannot close its file: it prints error stacks and keeps the handle until
the process ends. The file object here ignores all writes after the first failure and raises that
failure when the file is closed.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from gradscope.store.format.layout import FORMAT


class _Sink(io.RawIOBase):
    """File object for the driver of h5py."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.error: OSError | None = None
        self._end = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(self._end if whence == os.SEEK_END else offset)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: memoryview | bytes) -> int:  # type: ignore[override]
        data, start = memoryview(data).cast("B"), self._file.tell()
        self._end = max(self._end, start + len(data))
        written = 0
        while self.error is None and written < len(data):
            try:
                written += self._file.write(data[written:]) or 0
            except OSError as error:
                self.error = error
        self._file.seek(start + len(data))
        return len(data)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._file.readinto(buffer) or 0

    def truncate(self, size: int | None = None) -> int:
        self._end = self._file.tell() if size is None else size
        if self.error is None:
            try:
                self._file.truncate(self._end)
            except OSError as error:
                self.error = error
        return self._end

    def close(self) -> None:
        self._file.close()
        super().close()

    def check(self) -> None:
        """Raise the first failure so far."""
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """Create an HDF5 file and close it at the end.

    Raises
    ------
    OSError
        The first failure to write.
    """
    sink = _Sink(path)
    try:
        with h5py.File(sink, "w", libver=FORMAT) as file:
            yield file
        sink.check()
    except Exception:
        sink.check()
        raise
    finally:
        sink.close()

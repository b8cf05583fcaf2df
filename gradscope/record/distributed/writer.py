"""The writer of a recording: a real one on rank 0, a silent one on the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from gradscope.errors import RecordingError, RecordingExistsError
from gradscope.record.distributed.ranks import Ranks
from gradscope.store.write.writer import RecordingWriter


class SilentWriter:
    """What ranks other than 0 have for a `RecordingWriter`: takes everything, writes nothing."""

    error = None
    bytes_written = 0

    def __init__(self, path: Path) -> None:
        self.path = path

    def set_axis(self, name: str, columns: object) -> None:
        """Do nothing."""

    def append(self, group: str, rows: object) -> None:
        """Do nothing."""

    def set_attrs(self, **attrs: object) -> None:
        """Do nothing."""

    def flush(self, *, wait: bool = True) -> None:
        """Do nothing."""

    def close(self, status: str = "finished") -> None:
        """Do nothing."""


def open_writer(
    ranks: Ranks, path: Path, make: Callable[[Path], RecordingWriter]
) -> RecordingWriter:
    """Open the writer on rank 0, a silent one with the same path on the others.

    Raises
    ------
    RecordingExistsError, RecordingError
        On every rank, if rank 0 could not open it.
    """
    failed: list[Exception] = []
    opened: list[RecordingWriter] = []

    def attempt() -> str:
        try:
            opened.append(make(path))
        except Exception as error:
            failed.append(error)
            return f"{type(error).__name__}\n{error}"
        return f"\n{path}"

    kind, _, text = (ranks.agree("writer", attempt) or f"\n{path}").partition("\n")
    if failed:
        raise failed[0]
    if kind:
        raise (RecordingExistsError if kind == "RecordingExistsError" else RecordingError)(text)
    return opened[0] if opened else cast(RecordingWriter, SilentWriter(Path(text)))

"""The writer of a recording: a real one on rank 0, a silent one on the others."""

from __future__ import annotations

import contextlib
import datetime
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

from gradscope.errors import RecordingError, RecordingExistsError
from gradscope.record.distributed.ranks import Ranks
from gradscope.store.write.writer import RecordingWriter


class SilentWriter:
    """What ranks other than 0 have for a `RecordingWriter`: takes everything, writes nothing."""

    error = None
    bytes_written = 0
    last_step = 0
    saved = None
    inherited: ClassVar[dict[str, Any]] = {}

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

    def discard(self) -> None:
        """Do nothing."""

    def close(self, status: str = "finished") -> None:
        """Do nothing."""


def open_writer(
    ranks: Ranks, path: str | Path | None, attrs: Mapping[str, Any], if_exists: str
) -> RecordingWriter:
    """Open the writer on rank 0, a silent one with the same path on the others.

    Parameters
    ----------
    ranks : Ranks
    path : path-like or None
        By default ``runs/<model>-<UTC>.h5``, with a number behind it if that name is taken.
    attrs : mapping
        Root attributes.
    if_exists : {"error", "overwrite", "resume"}

    Raises
    ------
    RecordingExistsError, RecordingError
        On every rank, if rank 0 could not open it.
    """
    failed: list[Exception] = []
    opened: list[RecordingWriter] = []

    def attempt() -> str:
        try:
            if path is None:
                opened.append(_open_new(attrs))
            else:
                opened.append(RecordingWriter(path, attrs=attrs, if_exists=if_exists))
        except Exception as error:
            failed.append(error)
            return f"{type(error).__name__}\n{error}"
        return f"\n{opened[0].path}"

    kind, _, text = (ranks.agree("writer", attempt) or f"\n{path or 'runs'}").partition("\n")
    if failed:
        raise failed.pop()  # kept here too it would be a cycle that holds on to the model
    if kind:
        raise (RecordingExistsError if kind == "RecordingExistsError" else RecordingError)(text)
    return opened[0] if opened else cast(RecordingWriter, SilentWriter(Path(text)))


def _open_new(attrs: Mapping[str, Any]) -> RecordingWriter:
    """Open a recording under a name of its own, also beside one of the same second."""
    now = datetime.datetime.now(datetime.UTC)
    stem = f"{attrs['model_name']}-{now:%Y%m%dT%H%M%S}"
    for suffix in itertools.chain([""], (f"-{n}" for n in itertools.count(2))):
        with contextlib.suppress(RecordingExistsError):
            return RecordingWriter(Path("runs") / f"{stem}{suffix}.h5", attrs=attrs)
    raise AssertionError("unreachable")

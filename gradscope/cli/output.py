"""What commands share: where they write, and how they print sizes and times."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gradscope.errors import RecordingExistsError, UsageError

PICTURES = (".png", ".pdf", ".svg")
PAGES = (".html", ".htm")


def check_out(out: str, suffixes: Sequence[str]) -> Path:
    """Return what ``--out`` names.

    Raises
    ------
    UsageError
        If it ends in none of the suffixes, or its folder does not exist.
    """
    path = Path(out)
    if path.suffix.lower() not in suffixes:
        *most, last = suffixes
        words = f"{', '.join(most)} or {last}"
        raise UsageError(f"--out takes a name that ends in {words}; got {path}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}: make it, or choose another --out")
    return path


def beside(recordings: Sequence[str | Path], ending: str) -> Path:
    """Name a file beside the first recording, after it."""
    first = Path(recordings[0])
    name = first.name.removesuffix(".part").removesuffix(".h5").replace("*", "all")
    name += "-and-others" if len(recordings) > 1 else ""
    return first.with_name(f"{name}-{ending}")


def name_some(names: Sequence[str], n: int = 3) -> str:
    """Name the first few of many.

    >>> name_some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    rest = f" and {len(names) - n:,} more" if len(names) > n else ""
    return ", ".join(names[:n]) + rest


def as_words(text: str) -> str:
    """Reduce the name of a quantity to characters allowed in file names."""
    return "".join(c if c.isalnum() or c == "_" else "-" for c in text)


def check_output(path: Path, *, is_overwritten: bool) -> None:
    """Refuse an output that cannot be written, before anything is trained.

    Raises
    ------
    UsageError, RecordingExistsError
        If it is a folder, cannot be written or exists.
    """
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder; name a file, such as {path / 'run.h5'}")
    if path.exists() and not is_overwritten:
        raise RecordingExistsError(f"{path} exists; name another --out or give --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def is_first_rank() -> bool:
    """Whether this process speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def format_bytes(n_bytes: float) -> str:
    """Write bytes in the unit that suits them.

    >>> format_bytes(346903)
    '347 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000 or unit == "GB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.3g} {unit}"

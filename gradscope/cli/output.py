"""Where a command writes: as ``--out`` says, or beside the first recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscope.errors import UsageError

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


def beside(recordings: Sequence[str], ending: str) -> Path:
    """Name a file beside the first recording, after it."""
    first = Path(recordings[0])
    name = first.name.removesuffix(".part").removesuffix(".h5").replace("*", "all")
    name += "-and-others" if len(recordings) > 1 else ""
    return first.with_name(f"{name}-{ending}")


def as_words(text: str) -> str:
    """Keep of a quantity's name what file names may hold."""
    return "".join(c if c.isalnum() or c == "_" else "-" for c in text)

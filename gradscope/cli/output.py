"""What commands share: where they write, and how they print sizes and times."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gradscope.errors import RecordingExistsError, UsageError

PICTURES = (".png", ".pdf", ".svg")
PAGES = (".html", ".htm")


def check_out(out: str, suffixes: Sequence[str]) -> Path:
    """Return what ``--out`` names.

    Raises
    ------
    UsageError
        If it ends in none of the suffixes.
    """
    path = Path(out)
    if path.suffix.lower() not in suffixes or "\0" in out:
        *most, last = suffixes
        words = f"{', '.join(most)} or {last}"
        raise UsageError(f"--out takes a name that ends in {words}; got {out!r}")
    return path


def make_folder(path: Path) -> None:
    """Make the folder that a file goes to.

    Raises
    ------
    UsageError
        If it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        is_file = isinstance(error, FileExistsError | NotADirectoryError)
        words = "a file is in its way" if is_file else getattr(error, "strerror", None) or error
        raise UsageError(f"cannot make the folder {path.parent}: {words}") from error


def add_out(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    """Add ``-o/--out`` and ``--overwrite``, which mean the same for every command."""
    parser.add_argument("-o", "--out", metavar=metavar, help=f"{help}; folders are made")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists already")


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add ``--json``, which means the same for every command that reports something."""
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")


def print_json(value: object, *, is_line: bool = False) -> None:
    """Print what a command found, for machines; numbers that are not finite become null."""
    indent = None if is_line else 1
    print(json.dumps(_finite(value), indent=indent, default=str), flush=True)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def choose_target(
    arguments: argparse.Namespace,
    suffixes: Sequence[str],
    default: Callable[[], Path],
    *,
    others: Sequence[str] = (),
) -> Path:
    """Return where a picture or a page goes: ``--out``, else the default name.

    Nothing that exists is replaced without ``--overwrite``: ``--out`` is refused then, and the
    default name gets a number.

    Parameters
    ----------
    arguments : Namespace
        With ``out`` and ``overwrite``.
    suffixes : sequence of str
        Of files that the command can write.
    default : callable of () -> Path
        Where the file goes without ``--out``.
    others : sequence of str
        Suffixes of further files that are written under the same name.

    Raises
    ------
    UsageError, RecordingExistsError
        If ``--out`` has another suffix or exists, or the file cannot be written.
    """
    asked = default() if arguments.out is None else check_out(arguments.out, suffixes)
    probe(asked)

    def taken(path: Path) -> list[Path]:
        return [p for p in (path, *map(path.with_suffix, others)) if p.exists()]

    if arguments.overwrite or not taken(asked):
        return asked
    if arguments.out is not None:
        refuse_existing(taken(asked)[0], is_overwritten=False)
    numbered = (asked.with_stem(f"{asked.stem}-{n}") for n in itertools.count(2))
    return next(path for path in numbered if not taken(path))


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


def named_after(arguments: Sequence[str], recordings: Sequence[Path], ending: str) -> Path:
    """Name a file beside the recordings; one for a folder stands in it."""
    first = Path(arguments[0]) if arguments else recordings[0]
    if first.is_dir() and first.suffix != ".part":
        return first / f"all-{ending}"
    return beside(arguments or recordings, ending)


def as_words(text: str) -> str:
    """Reduce the name of a quantity to characters allowed in file names."""
    return "".join(c if c.isalnum() or c == "_" else "-" for c in text)


def refuse_existing(path: Path, *, is_overwritten: bool) -> None:
    """Refuse a file that exists, unless it is to be replaced.

    Raises
    ------
    RecordingExistsError
        If it exists.
    """
    if path.exists() and not is_overwritten:
        raise RecordingExistsError(f"{path} exists; name another --out or give --overwrite")


def check_output(path: Path, *, is_overwritten: bool) -> None:
    """Refuse an output that cannot be written, before anything is trained.

    Raises
    ------
    UsageError, RecordingExistsError
        If it is a folder, cannot be written or exists.
    """
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder; name a file, such as {path / 'run.h5'}")
    refuse_existing(path, is_overwritten=is_overwritten)
    probe(path)


def probe(path: Path, option: str = "--out") -> None:
    """Make the folder of a file, and refuse a file that cannot be written there.

    The option is the one that names another place.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    make_folder(path)
    try:
        trial = path.with_name(f".{path.name}.probe")
        trial.touch()
        trial.unlink()
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot write {path}: {words}; name another {option}") from error


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

"""What gradscope raises when a user can do something about it.

Wrong values raise ``ValueError`` and wrong kinds ``TypeError`` as everywhere in Python; the classes
here mark the mistakes that have a meaning of their own. The command line prints any of them, and
any ``OSError``, as one line with exit code 2.
"""

from __future__ import annotations

import difflib
import signal
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress


class GradscopeError(Exception):
    """Base of every error that gradscope itself defines."""


class UsageError(GradscopeError, ValueError):
    """An option, a configuration key or an argument that cannot be used as given."""


class DataError(GradscopeError, ValueError):
    """A data set that is missing, empty or damaged."""


class RecordingError(GradscopeError, ValueError):
    """A file that is no recording, is damaged, or was written by a newer schema."""


class RecordingExistsError(GradscopeError, FileExistsError):
    """A recording stands (or is being written) where a new one should go."""


class MissingPackageError(GradscopeError, ImportError):
    """A package of an extra that is not installed."""


@contextmanager
def imports_of_extra(extra: str) -> Iterator[None]:
    """Turn a failed import inside the ``with`` block into one line that says what to install.

    Used as ``with imports_of_extra("report"): import jinja2``.

    Raises
    ------
    MissingPackageError
        If a package is absent; an `ImportError` too.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or extra).partition(".")[0]
        raise MissingPackageError(
            f"{package} is not installed; run: pip install 'gradscope[{extra}]'", name=package
        ) from error


def warn(message: str, *, stacklevel: int = 3) -> None:
    """Warn of something in a training that must go on.

    A program that turns warnings into errors gets a line on stderr instead, and goes on too.
    """
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)
    except RuntimeWarning:
        with suppress(Exception):  # a program may have closed its streams
            print(message, file=sys.stderr)


def is_of_signal(error: BaseException) -> bool:
    """Whether a handler of a signal has raised an exception: it is the program's, whoever ran then.

    A batch that takes too long, or a machine that is about to be taken away, is often told so.
    """
    handlers = filter(callable, map(signal.getsignal, signal.valid_signals()))
    inner = [getattr(handler, "func", handler) for handler in handlers]  # of functools.partial
    codes = [getattr(h, "__code__", getattr(type(h).__call__, "__code__", None)) for h in inner]
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def unknown(kind: str, got: str, known: Iterable[str]) -> str:
    """Say what was got, what is nearest and what exists.

    >>> unknown("model", "vgg12", ["vgg13", "vgg16"])
    "unknown model 'vgg12'; did you mean 'vgg16'? Known: vgg13, vgg16"
    """
    names = sorted(known)
    if not names:
        return f"unknown {kind} {got!r}; there is none"
    near = difflib.get_close_matches(got, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {got!r}{hint} Known: {', '.join(names)}"

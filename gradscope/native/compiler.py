"""Compilation of CPU kernels with numba, cached on disk.

numba's cache looks only at the file of the function that it caches. A kernel here is inlined from
several files, so its name in the cache carries a digest of all of them: an edit in any file gives
a new entry, never a stale one.

Everything that a kernel calls is inlined. Otherwise the process that compiles would call one copy
of an inner function and a process that loads the kernel from the cache another one, optimized in
another context: sums of the two would differ in the last bits.

Variables of kernels start as ``np.int64(0)``, not as 0: a literal is a type of its own, and what is
called with it in the first round of a loop would be compiled a second time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from numba import cfunc, njit, types

from gradscope.errors import warn
from gradscope.native import compile_time

P = ParamSpec("P")
R = TypeVar("R")

Bool: TypeAlias = Any
Float32: TypeAlias = Any
Float64: TypeAlias = Any
Int32: TypeAlias = Any
Int64: TypeAlias = Any
Address: TypeAlias = Any
Array: TypeAlias = Any
"""Kinds of values inside of kernels, for the reader: numba infers the types by itself."""

_SUMS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"reassoc", "nsz", "contract", "arcp"},  # NaN and infinity stay what they are
}
_INLINED: dict[str, Any] = {
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
"""Nothing calls these functions from Python: entry points for it would be compiled for nothing."""
_IN_ORDER: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that kernels call; it is inlined into each of them.

    The compiler may reorder what is added and multiplied, as sums over vectors need it.
    """
    return cast("Callable[P, R]", njit(**_INLINED, **_SUMS)(function))


def jit_in_order(function: Callable[P, R]) -> Callable[P, R]:
    """Compile as `jit` does, with operations in the order in which they are written.

    For arithmetic that is exact only in its order, such as a number less its nearest integer.
    Products may still be fused with sums.
    """
    return cast("Callable[P, R]", njit(**_INLINED, **_IN_ORDER)(function))


class Kernel:
    """A compiled function of type ``void(void *)``.

    Calling it from several threads at once, and without Python, is what it is for: see
    `gradscope.native.threads.Threads`.

    Parameters
    ----------
    function : callable
        Takes the address of a job (`gradscope.native.jobs.JOB`).
    """

    def __init__(self, function: Callable[[Address], None]) -> None:
        self._function = function
        self._compiled: Any = None  # kept alive: the code goes with it
        package = function.__module__.rpartition(".")[0]
        function.__qualname__ = f"{function.__name__}_{_digest(package)}"

    @functools.cached_property
    def address(self) -> int:
        """Where the compiled function lies in memory; the first use compiles or loads it."""
        with compile_time.measured(), _told_if_slow():
            self._compiled = self._compile()
        return int(self._compiled.address)

    def _compile(self) -> Any:
        signature = types.void(types.int64)
        try:
            return cfunc(signature, cache=True, **_SUMS)(self._function)
        except Exception as error:  # a read-only installation, a full disk, a damaged cache
            compiled = cfunc(signature, **_SUMS)(self._function)
            _warn_of_cache(f"{type(error).__name__}: {error}")
            return compiled


@functools.cache
def _digest(package: str) -> str:
    """Digest of the sources that kernels of a package are made from: its own and those here."""
    digest = hashlib.sha256()
    for name in ("gradscope.native", "gradscope.native.sums", package):
        files = [f for f in resources.files(name).iterdir() if f.name.endswith(".py")]
        for file in sorted(files, key=lambda f: f.name):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


_TOLD_AFTER = 1.0
"""Seconds; what takes longer than this is compiled, not loaded from the cache."""


@contextlib.contextmanager
def _told_if_slow() -> Iterator[None]:
    """Say in a terminal, once in a process, why nothing seems to happen."""
    timer = threading.Timer(_TOLD_AFTER, _tell_of_compilation)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@functools.cache
def _tell_of_compilation() -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        text = "gradscope: compiling CPU kernels for this machine; later runs load them"
        print(text, file=sys.stderr, flush=True)


_warned: list[str] = []


def _warn_of_cache(reason: str) -> None:
    """Warn once in a process that nothing is kept for the next one."""
    if not _warned:
        _warned.append(reason)
        warn(
            "compiled CPU kernels cannot be cached on disk, so every process compiles them anew "
            f"(some seconds). Set NUMBA_CACHE_DIR to a writable folder. The reason: {reason}",
            stacklevel=5,
        )

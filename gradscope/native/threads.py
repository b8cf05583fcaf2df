"""Threads for compiled functions that run without Python: torch's own where they can be had.

After an operation torch's OpenMP threads wait for the next one by spinning, so threads of anyone
else find the cores taken. Those of torch are reached through the OpenMP that its library is linked
with; elsewhere (other platforms, a forked process, in which OpenMP's threads are gone) a pool
serves.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

_PID = os.getpid()


def _find_parallel() -> Callable[..., None] | None:
    """Return ``GOMP_parallel(function, data, n_threads, flags)`` of torch's OpenMP."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        parallel = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


@functools.cache
def _as_callable(address: int) -> Callable[[int], None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


class Threads:
    """Runs one function on several threads at once."""

    def __init__(self) -> None:
        self._parallel = _find_parallel()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_pid = 0

    def run(self, function: Any, data: int, n_threads: int) -> None:
        """Call ``function(data)`` on each of ``n_threads``, the caller's among them, and wait.

        Parameters
        ----------
        function : Kernel
            Divides the work among those who call it.
        data : int
            Address.
        n_threads : int
        """
        if n_threads > 1 and self._parallel is not None and os.getpid() == _PID:
            self._parallel(function.address, data, n_threads, 0)
            return
        call = _as_callable(function.address)
        if n_threads == 1:
            call(data)
            return
        jobs = [self._threads().submit(call, data) for _ in range(n_threads - 1)]
        call(data)
        for job in jobs:
            job.result()

    def _threads(self) -> ThreadPoolExecutor:
        """Return the pool; a new one in a forked process, where the old one's threads are gone."""
        if self._pool is None or self._pool_pid != os.getpid():
            self._pool = ThreadPoolExecutor(torch.get_num_threads(), "gradscope-measure")
            self._pool_pid = os.getpid()
        return self._pool

"""How long this process has compiled kernels or loaded them: no part of what a step costs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

_seconds = 0.0


def working_seconds() -> float:
    """Return `time.perf_counter`, standing still while kernels are compiled or loaded."""
    return time.perf_counter() - _seconds


@contextlib.contextmanager
def measured() -> Iterator[None]:
    """Count what is done inside."""
    global _seconds
    began = time.perf_counter()
    try:
        yield
    finally:
        _seconds += time.perf_counter() - began

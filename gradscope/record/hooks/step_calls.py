"""Calls of an optimizer's ``step``, one for each step that is taken.

torch hooks the ``step`` of every class that it has seen. A subclass whose ``step`` calls that of
its parent runs the hooks twice; the outermost call is the step.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer


class StepCalls:
    """Passes on the outermost of nested calls of ``step``.

    Parameters
    ----------
    before, after : callable of (optimizer, args, kwargs)
    """

    def __init__(self, before: Callable[..., None], after: Callable[..., None]) -> None:
        self._before, self._after = before, after
        self._begun: set[int] = set()
        self._nesting: set[int] = set()

    def before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin a call; one that never ended, because it raised, does not count."""
        key = id(optimizer)
        if key in self._begun and is_nested(optimizer):
            self._nesting.add(key)
            return
        self._nesting.discard(key)
        self._begun.add(key)
        self._before(optimizer, args, kwargs)

    def after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """End a call."""
        key = id(optimizer)
        if key in self._nesting and is_nested(optimizer):
            return
        self._begun.discard(key)
        self._after(optimizer, args, kwargs)


def is_nested(optimizer: Optimizer) -> bool:
    """Whether the hook that runs now is that of a ``step`` within another of the optimizer."""
    return n_running(optimizer) > 1


def n_running(optimizer: Optimizer) -> int:
    """Count the calls of an optimizer's ``step`` that are running, up to two."""
    return sum(1 for _ in itertools.islice((o for o in _running() if o is optimizer), 2))


def is_stepping() -> bool:
    """Whether the ``step`` of any optimizer is running in this thread."""
    return next(_running(), None) is not None


def _running() -> Iterator[Any]:
    """Iterate over the optimizers whose ``step`` is running, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "wrapper" and code.co_filename == torch_optimizer.__file__:
            yield frame.f_locals["args"][0]
        frame = frame.f_back


def has_closure(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether ``optimizer.step(closure)`` was called; ``args`` begin with the optimizer itself.

    What some optimizers take in its place, a number or gradients, cannot be called.
    """
    return callable(args[1] if len(args) > 1 else kwargs.get("closure"))

"""Capture the loss of a training that logs none: the scalars that ``backward`` is called on.

The recorded loss is their sum since the step before, unscaled: the function whose gradient the
optimizer consumes, over all micro-batches. Values stay tensors on their device; nothing waits.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradscope.errors import UsageError, warn
from gradscope.record.guard import contained
from gradscope.record.hooks.step_calls import has_closure
from gradscope.record.recorder import Recorder


class LossWatch:
    """Sees every ``backward`` of the process and gives its scalar to the recorder in turn.

    The recorder in turn is the one whose model was called last.
    """

    def __init__(self) -> None:
        self._current: Recorder | None = None
        self._sum: Tensor | None = None
        self._last: Tensor | None = None
        self._at = -1
        self._n_in_closure: int | None = None
        self._unscaled: tuple[weakref.ref[Tensor], Tensor] | None = None

    def start(self) -> Callable[[], None]:
        """Wrap ``torch.autograd.backward`` and ``GradScaler.scale``; returns how to undo it."""
        backward, scale = torch.autograd.backward, torch.amp.GradScaler.scale
        see = contained(self._see, _tell)
        forget = contained(self._forget_discarded, _tell)

        @functools.wraps(backward)
        def watched_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return backward(tensors, *args, **kwargs)
            see(tensors)
            before = self._last, self._n_discards()
            result = backward(tensors, *args, **kwargs)
            forget(*before)
            return result

        @functools.wraps(scale)
        def watched_scale(scaler: Any, outputs: Any) -> Any:
            scaled = scale(scaler, outputs)
            if isinstance(scaled, Tensor) and isinstance(outputs, Tensor):
                self._unscaled = weakref.ref(scaled), outputs.detach()
            return scaled

        def undo() -> None:
            torch.autograd.backward = backward
            torch.amp.GradScaler.scale = scale  # type: ignore[method-assign]

        torch.autograd.backward = watched_backward
        torch.amp.GradScaler.scale = watched_scale  # type: ignore[method-assign, assignment]
        return undo

    def turn_to(self, recorder: Recorder) -> None:
        """Give what comes next to this recorder."""
        self._current = recorder

    def forget(self, recorder: Recorder) -> None:
        """Let go of a recorder that is closed."""
        if self._current is recorder:
            self._current = self._sum = None

    def before_step(
        self, recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Note a step; with a closure, only its first ``backward`` is at the parameters before."""
        self._current = recorder
        self._n_in_closure = 0 if has_closure(args, kwargs) else None

    def after_step(self) -> None:
        """Note the end of a step."""
        self._n_in_closure = None

    def _see(self, tensors: Any) -> None:
        roots = tensors if isinstance(tensors, tuple | list) else (tensors,)
        is_loss = all(isinstance(root, Tensor) and root.numel() == 1 for root in roots)
        if self._current is None or not roots or not is_loss:
            return
        if self._n_in_closure is not None:
            self._n_in_closure += 1
            if self._n_in_closure > 1:
                return
        value = self._last = _sum([self._value(root) for root in roots])
        if self._at != self._current.step or self._sum is None:
            self._at, self._sum = self._current.step, value
        else:
            self._sum = _sum([self._sum, value])
        self._log()

    def _value(self, root: Tensor) -> Tensor:
        """Return the value of a root, unscaled."""
        if self._unscaled is not None and self._unscaled[0]() is root:
            root = self._unscaled[1]
        return root.detach().reshape(())

    def _n_discards(self) -> int:
        return 0 if self._current is None else self._current._events.n_discards

    def _forget_discarded(self, last: Tensor | None, n_discards: int) -> None:
        """Keep only the last loss if its ``backward`` showed that gradients had been zeroed."""
        is_discarded = self._n_discards() > n_discards
        if is_discarded and self._current is not None and self._at == self._current.step:
            self._sum = last
            self._log()

    def _log(self) -> None:
        if self._current is None or self._sum is None:
            return
        try:
            self._current.log(loss=self._sum)
        except UsageError:  # the program attached a recorder of its own, which closed ours
            self._current = None


def _tell(reason: str) -> None:
    warn(f"gradscope no longer records the loss: {reason}", stacklevel=5)


def _sum(values: list[Tensor]) -> Tensor:
    """Add up numbers that may lie on several devices."""
    first = values[0]
    return sum((value.to(first.device, non_blocking=True) for value in values[1:]), first)

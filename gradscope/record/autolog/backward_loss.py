"""Capture the loss of a training that logs none: the scalars that ``backward`` is called on.

A loss belongs to the optimizers whose gradients its ``backward`` has changed, and to the next step
of each. The recorded loss of a row is the sum over all calls that reached it and were not thrown
away since, unscaled: the function whose gradient the optimizers consume. Values stay tensors on
their device; nothing waits.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gradscope.errors import warn
from gradscope.record.guard import contained
from gradscope.record.hooks.compile_taps import never_a_frame, never_compiled
from gradscope.record.hooks.step_calls import StepCalls, has_closure
from gradscope.record.model.identity import WeakIdentityMap, is_among
from gradscope.record.recorder import Recorder

MAX_CALLS = 4096
"""Calls since the last step of an optimizer that are told apart; older ones are summed."""

Losses = dict[int, Tensor]
"""Number of a backward call to the scalar that it was called on."""
Mark = tuple[int, int]
"""What changes when the gradient of a parameter does: its identity and version."""


@dataclass
class _Fed:
    """The losses that have reached an optimizer since its last step.

    ``param`` is one that has a gradient then, ``mark`` that of its gradient.
    """

    losses: Losses
    param: Tensor | None
    mark: Mark


@dataclass
class _Call:
    """One ``backward`` in progress, and the gradients as it found them."""

    number: int
    value: Tensor
    before: list[tuple[Optimizer, list[Mark]]]
    stepped: list[Optimizer]
    """Optimizers that have stepped within it."""


class LossWatch:
    """Sees every ``backward`` of the process and gives its scalar to the recorders that it feeds.

    Parameters
    ----------
    watched : callable
        Returns the optimizers that are recorded, or will be once they step.
    recorder_of : callable
        Returns the recorder of an optimizer; None without.
    """

    def __init__(
        self,
        watched: Callable[[], Iterable[Optimizer]],
        recorder_of: Callable[[Optimizer], Recorder | None],
    ) -> None:
        self._watched = watched
        self._recorder_of = recorder_of
        self._fed: WeakIdentityMap[_Fed] = WeakIdentityMap()
        self._rows: dict[Recorder, tuple[int, Losses]] = {}
        self._numbers = itertools.count()
        self._running: list[_Call] = []
        self._n_in_closure: int | None = None
        self._unscaled: tuple[weakref.ref[Tensor], Tensor] | None = None
        self._undo: list[Callable[[], None]] = []

    def start(self) -> None:
        """Wrap ``torch.autograd.backward`` and ``GradScaler.scale``, and watch steps."""
        backward, scale = torch.autograd.backward, torch.amp.GradScaler.scale
        see, end = (never_compiled(contained(f, _tell)) for f in (self._see, self._end))

        @functools.wraps(backward)
        def watched_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return backward(tensors, *args, **kwargs)
            call = see(tensors)
            try:
                return backward(tensors, *args, **kwargs)
            finally:
                end(call)

        @functools.wraps(scale)
        def watched_scale(scaler: Any, outputs: Any) -> Any:
            scaled = scale(scaler, outputs)
            if isinstance(scaled, Tensor) and isinstance(outputs, Tensor):
                self._unscaled = weakref.ref(scaled), outputs.detach()
            return scaled

        def undo() -> None:
            torch.autograd.backward = backward
            torch.amp.GradScaler.scale = scale  # type: ignore[method-assign]

        never_a_frame(watched_backward)
        torch.autograd.backward = watched_backward
        torch.amp.GradScaler.scale = watched_scale  # type: ignore[method-assign, assignment]
        self._undo.append(undo)
        calls = StepCalls(self._before_step, self._after_step)
        before, after = (never_compiled(contained(f, _tell)) for f in (calls.before, calls.after))
        self._undo.append(register_optimizer_step_pre_hook(before).remove)
        self._undo.append(register_optimizer_step_post_hook(after).remove)

    def stop(self) -> None:
        """Put torch's own functions back, and watch no more."""
        while self._undo:
            self._undo.pop()()

    def forget(self, recorder: Recorder) -> None:
        """Let go of a recorder that is closed."""
        self._rows.pop(recorder, None)

    # -- steps

    def _before_step(self, _: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note a step; with a closure, only its first ``backward`` is at the parameters before."""
        self._n_in_closure = 0 if has_closure(args, kwargs) else None

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Give a step the losses that its gradients come from."""
        self._n_in_closure = None
        recorder, fed = self._recorder_of(optimizer), self._fed.get(optimizer)
        self._fed.pop(optimizer)
        losses: Losses = fed.losses if fed is not None else {}
        if self._running:  # an optimizer that steps inside backward
            call = self._running[-1]
            call.stepped.append(optimizer)
            losses = losses | {call.number: call.value}
        if recorder is not None and losses:
            self._log(recorder, losses)

    def _log(self, recorder: Recorder, losses: Losses) -> None:
        """Log the sum of some losses, and of those that the row has from other optimizers."""
        step, known = self._rows.get(recorder, (-1, {}))
        if step == recorder.step:
            losses = known | losses
        self._rows[recorder] = recorder.step, losses
        recorder.log(loss=_sum(list(losses.values())))

    # -- backward

    def _see(self, tensors: Any) -> _Call | None:
        roots = tensors if isinstance(tensors, tuple | list) else (tensors,)
        is_loss = all(isinstance(root, Tensor) and root.numel() == 1 for root in roots)
        if not roots or not is_loss:
            return None
        if self._n_in_closure is not None:
            self._n_in_closure += 1
            if self._n_in_closure > 1:
                return None
        value = _sum([self._value(root) for root in roots])
        before = [
            (optimizer, [_mark(p.grad) for p in _params(optimizer)])
            for optimizer in self._watched()
        ]
        call = _Call(next(self._numbers), value, before, [])
        for optimizer, _ in before:
            fed = self._fed.get(optimizer)
            if fed is not None and _is_discarded(optimizer, fed):
                self._fed.pop(optimizer)
        self._running.append(call)
        return call

    def _value(self, root: Tensor) -> Tensor:
        """Return the value of a root, unscaled."""
        if self._unscaled is not None and self._unscaled[0]() is root:
            root = self._unscaled[1]
        return root.detach().reshape(()).clone()

    def _end(self, call: _Call | None) -> None:
        if call is None:
            return
        self._running = [other for other in self._running if other is not call]
        for optimizer, before in call.before:
            if is_among(optimizer, call.stepped) or not _is_changed(optimizer, before):
                continue
            fed = self._fed.get(optimizer)
            losses = {**(fed.losses if fed is not None else {}), call.number: call.value}
            if len(losses) > MAX_CALLS:
                losses = {call.number: _sum(list(losses.values()))}
            param = next((p for p in _params(optimizer) if p.grad is not None), None)
            self._fed[optimizer] = _Fed(
                losses, param, _mark(param.grad if param is not None else None)
            )
            recorder = self._recorder_of(optimizer)
            may_skip = self._unscaled is not None  # a scaler may skip the step
            if may_skip and recorder is not None and recorder._events.clock.is_open:
                recorder.log(loss=_sum(list(losses.values())))


def _params(optimizer: Optimizer) -> Iterator[Tensor]:
    return itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)


def _mark(grad: Tensor | None) -> Mark:
    return (0, 0) if grad is None else (id(grad), grad._version)


def _is_changed(optimizer: Optimizer, before: list[Mark]) -> bool:
    """Whether a gradient is another than before; mostly the first one tells."""
    now = list(_params(optimizer))
    return len(now) != len(before) or any(
        _mark(p.grad) != mark for p, mark in zip(now, before, strict=True)
    )


def _is_discarded(optimizer: Optimizer, fed: _Fed) -> bool:
    """Whether gradients were zeroed since a ``backward`` left them."""
    if fed.param is not None and _mark(fed.param.grad) == fed.mark:
        return False
    grads = (p.grad for p in _params(optimizer))
    # Written to: zeroed in place, or clipped or unscaled. Only the CPU is asked which.
    return all(g is None or g.device.type != "cpu" or not bool(g.any()) for g in grads)


def _tell(reason: str) -> None:
    warn(f"gradscope no longer records the loss: {reason}", stacklevel=5)


def _sum(values: list[Tensor]) -> Tensor:
    """Add up numbers that may lie on several devices."""
    first = values[0]
    return sum((value.to(first.device, non_blocking=True) for value in values[1:]), first)

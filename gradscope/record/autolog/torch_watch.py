"""Hooks in torch that tell a session what a program does.

Optimizers are seen when they are made. The hooks on forward passes and steps come with the first
one, which is also when torch itself loads its compiler: what the hooks call is never compiled, and
a session is told before a frame is. An exception of the session's own is told once and ends what
that hook does; the program never sees it.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gradscope.record.guard import contained
from gradscope.record.hooks.compile_taps import (
    ignore_compile_warning,
    never_a_frame,
    never_compiled,
)
from gradscope.record.hooks.step_calls import StepCalls

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Listener(Protocol):
    """What a session is told."""

    def see_optimizer(self, optimizer: Optimizer) -> None:
        """An optimizer was made."""

    def see_copy(self, optimizer: Optimizer) -> None:
        """An optimizer was copied or unpickled, or took another state."""

    def see_scaler(self, scaler: Any) -> None:
        """A gradient scaler was made."""

    def see_call(self, module: nn.Module, args: Args) -> None:
        """A module is called."""

    def see_compiler(self) -> None:
        """A compiler begins to trace a frame."""

    def before_step(self, optimizer: Optimizer, args: Args, kwargs: Kwargs) -> None:
        """An optimizer is about to step."""

    def after_step(self, optimizer: Optimizer, args: Args, kwargs: Kwargs) -> None:
        """An optimizer has stepped."""

    def leave_child(self) -> None:
        """The process is a fork of the one that is recorded."""


class TorchWatch:
    """Puts the hooks of a session into torch and takes them out.

    Parameters
    ----------
    listener : Listener
    tell : callable of str
        Takes the reason of an exception of the listener's own.
    """

    def __init__(self, listener: Listener, tell: Callable[[str], None]) -> None:
        self._listener = listener
        self._tell = tell
        self._undo: list[Callable[[], None]] = []
        self._is_complete = False

    def start(self) -> None:
        """Watch for optimizers and scalers."""
        self._undo.append(ignore_compile_warning())
        listener = self._listener
        self._wrap(Optimizer, "__init__", self._contained(self._watching(listener.see_optimizer)))
        self._wrap(Optimizer, "__setstate__", self._contained(self._watching(listener.see_copy)))
        self._wrap(torch.amp.GradScaler, "__init__", self._contained(listener.see_scaler))
        leave = weakref.WeakMethod(self._leave_child)
        os.register_at_fork(after_in_child=lambda: (method := leave()) and method())

    def stop(self) -> None:
        """Take all hooks out."""
        while self._undo:
            self._undo.pop()()

    def _contained(self, function: Callable[..., None]) -> Callable[..., None]:
        return contained(function, self._tell)

    def _wrap(self, owner: type, name: str, after: Callable[[Any], None]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(thing: Any, *args: Any, **kwargs: Any) -> None:
            original(thing, *args, **kwargs)
            after(thing)

        setattr(owner, name, wrapper)
        self._undo.append(lambda: setattr(owner, name, original))

    def _leave_child(self) -> None:
        self.stop()
        self._listener.leave_child()

    def _watching(self, see: Callable[[Optimizer], None]) -> Callable[[Optimizer], None]:
        """Watch the training too once there is an optimizer."""

        def inner(optimizer: Optimizer) -> None:
            see(optimizer)
            if not self._is_complete:
                self._is_complete = True
                self._watch_training()

        return inner

    def _watch_training(self) -> None:
        """Watch forward passes, steps and the compiler."""
        listener = self._listener
        calls = StepCalls(listener.before_step, listener.after_step)
        before_forward, before, after = (
            never_compiled(self._contained(function))
            for function in (listener.see_call, calls.before, calls.after)
        )
        for handle in (
            torch_module.register_module_forward_pre_hook(before_forward),
            register_optimizer_step_pre_hook(before),
            register_optimizer_step_post_hook(after),
        ):
            self._undo.append(handle.remove)
        from torch._dynamo.callback import callback_handler

        # Torch holds a lock meanwhile: a frame of ours that was compiled would wait for ever.
        see_compiler = torch.compiler.disable(self._contained(listener.see_compiler))

        def on_start(*about: Any) -> None:  # some versions of torch say nothing about it
            if not about or about[0].callback_trigger.name == "DYNAMO":
                see_compiler()

        never_a_frame(on_start)
        callback_handler.register_start_callback(on_start)
        self._undo.append(lambda: callback_handler.remove_start_callback(on_start))
